package main

import (
	"fmt"
	"math"
	"os"
	"strings"
)

// line is one series of a plot.
type line struct {
	name string
	x, y []float64
}

// plot draws lines over logarithmic axes, as an SVG that reads on light and dark pages alike.
type plot struct {
	title, x, y string
	lines       []line
}

var colours = []string{"#2f6fde", "#d9622b", "#2e9e5b", "#8a4fbf", "#7a7a7a"}

const (
	width, height            = 640.0, 400.0
	left, right, top, bottom = 80.0, 120.0, 40.0, 55.0
)

func (p *plot) write(path string) error {
	xs, ys := newAxis(p.lines, func(l line) []float64 { return l.x }), newAxis(p.lines, func(l line) []float64 { return l.y })
	atX := func(v float64) float64 { return left + xs.share(v)*(width-left-right) }
	atY := func(v float64) float64 { return height - bottom - ys.share(v)*(height-top-bottom) }
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" font-family="sans-serif" font-size="12">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="%g" height="%g" fill="#ffffff"/>`+"\n", width, height)
	fmt.Fprintf(&b, `<text x="%g" y="22" font-size="15" fill="#222">%s</text>`+"\n", left, p.title)
	for _, v := range xs.marks() {
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%g" x2="%.1f" y2="%g" stroke="#ddd"/><text x="%.1f" y="%g" text-anchor="middle" fill="#444">%s</text>`+"\n",
			atX(v), top, atX(v), height-bottom, atX(v), height-bottom+18, number(v))
	}
	for _, v := range ys.marks() {
		fmt.Fprintf(&b, `<line x1="%g" y1="%.1f" x2="%g" y2="%.1f" stroke="#ddd"/><text x="%g" y="%.1f" text-anchor="end" fill="#444">%s</text>`+"\n",
			left, atY(v), width-right, atY(v), left-8, atY(v)+4, number(v))
	}
	fmt.Fprintf(&b, `<text x="%g" y="%g" text-anchor="middle" fill="#222">%s</text>`+"\n", (left+width-right)/2, height-14, p.x)
	fmt.Fprintf(&b, `<text transform="translate(18 %g) rotate(-90)" text-anchor="middle" fill="#222">%s</text>`+"\n", (top+height-bottom)/2, p.y)
	for i, l := range p.lines {
		var points []string
		for j := range l.x {
			points = append(points, fmt.Sprintf("%.1f,%.1f", atX(l.x[j]), atY(l.y[j])))
		}
		c := colours[i%len(colours)]
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(points, " "), c)
		for _, at := range points {
			x, y, _ := strings.Cut(at, ",")
			fmt.Fprintf(&b, `<circle cx="%s" cy="%s" r="3" fill="%s"/>`+"\n", x, y, c)
		}
		y := top + 14 + 18*float64(i)
		fmt.Fprintf(&b, `<line x1="%g" y1="%g" x2="%g" y2="%g" stroke="%s" stroke-width="2"/><text x="%g" y="%g" fill="#222">%s</text>`+"\n",
			width-right+12, y-4, width-right+32, y-4, c, width-right+38, y, l.name)
	}
	b.WriteString("</svg>\n")
	return os.WriteFile(path, []byte(b.String()), 0o644)
}

// axis covers whole decades.
type axis struct{ low, high float64 }

func newAxis(lines []line, of func(line) []float64) axis {
	a := axis{math.Inf(1), math.Inf(-1)}
	for _, l := range lines {
		for _, v := range of(l) {
			a.low, a.high = min(a.low, math.Floor(math.Log10(v))), max(a.high, math.Ceil(math.Log10(v)))
		}
	}
	if a.high <= a.low {
		a.high = a.low + 1
	}
	return a
}

func (a axis) share(v float64) float64 { return (math.Log10(v) - a.low) / (a.high - a.low) }

func (a axis) marks() (list []float64) {
	for e := a.low; e <= a.high; e++ {
		list = append(list, math.Pow(10, e))
	}
	return list
}

func number(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%gM", v/1e6)
	case v >= 1e3:
		return fmt.Sprintf("%gk", v/1e3)
	}
	return fmt.Sprintf("%g", v)
}

package engine

import (
	"slices"

	"github.com/vektah/gqlparser/v2/ast"
)

// source finds places that gqlparser does not tell. Offsets are in characters, like its own.
type source struct {
	text  []rune
	lines []int // where each begins
}

func newSource(text string) *source {
	s := &source{text: []rune(text), lines: []int{0}}
	for i, r := range s.text {
		if r == '\n' || r == '\r' && (i+1 == len(s.text) || s.text[i+1] != '\n') {
			s.lines = append(s.lines, i+1)
		}
	}
	return s
}

// offset of a place.
func (s *source) offset(l Location) int { return s.lines[l.Line-1] + l.Column - 1 }

// place of an offset.
func (s *source) place(offset int) Location {
	line, exact := slices.BinarySearch(s.lines, offset)
	if !exact {
		line--
	}
	return Location{line + 1, offset - s.lines[line] + 1}
}

// opening is the place of a text or a directive, of which gqlparser tells where it goes on behind the quote or the @.
func (s *source) opening(l Location) Location {
	if i := s.offset(l); i > 0 && (s.text[i-1] == '"' || s.text[i-1] == '@') {
		l.Column--
	}
	return l
}

// before is the place of the last mark in front of an offset.
func (s *source) before(offset int, mark string) Location {
	m := []rune(mark)
	for i := min(offset, len(s.text)) - len(m); i >= 0; i-- {
		if slices.Equal(s.text[i:i+len(m)], m) {
			return s.place(i)
		}
	}
	return s.place(offset)
}

// behind is the place of the name that follows n words, or dollars, later.
func (s *source) behind(p *ast.Position, n int) Location {
	i := p.Start
	for ; n > 0; n-- {
		if i < len(s.text) && s.text[i] == '$' {
			i++
			continue
		}
		for i < len(s.text) && isName(s.text[i]) {
			i++
		}
		for i < len(s.text) && !isName(s.text[i]) {
			i++
		}
	}
	return s.place(i)
}

func isName(r rune) bool {
	return r == '_' || r >= '0' && r <= '9' || r|0x20 >= 'a' && r|0x20 <= 'z'
}

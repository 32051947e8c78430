package config

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	backendai "backend.ai/manager"
)

// reader takes typed values out of parsed tables and notes what is wrong, so that one run finds every mistake. Its methods return the
// default for a missing key and some value for a wrong one; nobody uses them once there are problems.
type reader struct {
	tables   map[string]any
	origin   map[string]string // key → environment variable
	problems []Problem
}

// set overrides a key, making its tables.
func (r *reader) set(key, variable string, value any) {
	parts := strings.Split(key, ".")
	table := r.tables
	for _, name := range parts[:len(parts)-1] {
		inner, ok := table[name].(map[string]any)
		if !ok {
			inner = map[string]any{}
			table[name] = inner
		}
		table = inner
	}
	table[parts[len(parts)-1]] = value
	r.origin[key] = variable
}

// get is nil for a missing key.
func (r *reader) get(key string) any {
	var v any = r.tables
	for name := range strings.SplitSeq(key, ".") {
		table, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = table[name]
	}
	return v
}

func (r *reader) bad(key string, value any, allowed string, args ...any) {
	shown := ""
	if value != nil {
		shown = shownValue(key, value)
	}
	r.problems = append(r.problems, Problem{Key: key, Value: shown, Allowed: fmt.Sprintf(allowed, args...), Origin: r.origin[key]})
}

// shownValue never shows what may be a secret.
func shownValue(key string, value any) string {
	for _, word := range []string{"password", "secret", "token"} {
		if strings.Contains(key, word) {
			return mask
		}
	}
	text := fmt.Sprint(value)
	if s, ok := value.(string); ok {
		text = strconv.Quote(s)
	}
	if len(text) > 120 {
		text = text[:120] + "…"
	}
	return text
}

// table checks that a table, if there, is one.
func (r *reader) table(key string) (present bool) {
	switch v := r.get(key).(type) {
	case nil:
		return false
	case map[string]any:
		return true
	default:
		r.bad(key, v, "must be a table")
		return false
	}
}

func (r *reader) text(key, fallback string) string {
	switch v := r.get(key).(type) {
	case nil:
		return fallback
	case string:
		return v
	default:
		r.bad(key, v, "must be a text in quotes")
		return fallback
	}
}

func (r *reader) required(key string) string {
	text := r.text(key, "")
	if text == "" && len(r.problemsOf(key)) == 0 {
		if v := r.get(key); v == nil {
			r.bad(key, nil, "is required: a text that is not empty")
		} else {
			r.bad(key, v, "must not be empty")
		}
	}
	return text
}

func (r *reader) problemsOf(key string) (list []Problem) {
	for _, p := range r.problems {
		if p.Key == key {
			list = append(list, p)
		}
	}
	return list
}

// bool takes TOML booleans and the texts of ParseBool; where the original insists on a boolean we need not.
func (r *reader) bool(key string, fallback bool) bool {
	switch v := r.get(key).(type) {
	case nil:
		return fallback
	case bool:
		return v
	default:
		b, err := ParseBool(fmt.Sprint(v))
		if err != nil {
			r.bad(key, v, "%s", messageOf(err))
		}
		return b
	}
}

// number takes numbers and texts that are one.
func number(v any) (float64, bool) {
	switch v := v.(type) {
	case int64:
		return float64(v), true
	case float64:
		return v, !math.IsNaN(v)
	case string:
		f, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
		return f, err == nil && !math.IsNaN(f)
	}
	return 0, false
}

func (r *reader) int(key string, fallback, low, high int) int {
	v := r.get(key)
	if v == nil {
		return fallback
	}
	f, ok := number(v)
	if !ok || f != math.Trunc(f) || f < float64(low) || f > float64(high) {
		if high == math.MaxInt32 {
			r.bad(key, v, "must be a whole number of at least %d", low)
		} else {
			r.bad(key, v, "must be a whole number from %d to %d", low, high)
		}
		return fallback
	}
	return int(f)
}

// seconds takes a number of seconds, or for our own keys a duration such as "5m".
func (r *reader) seconds(key string, fallback, low, high time.Duration) time.Duration {
	v := r.get(key)
	if v == nil {
		return fallback
	}
	f, ok := number(v)
	if text, isText := v.(string); isText && !ok {
		if span, err := ParseSpan(text); err == nil {
			f, ok = span.Approx().Seconds(), true
		}
	}
	if !ok || f < low.Seconds() || f > high.Seconds() {
		r.bad(key, v, "must be a number of seconds from %v to %v", low.Seconds(), high.Seconds())
		return fallback
	}
	return time.Duration(f * float64(time.Second))
}

func (r *reader) choice(key, fallback string, allowed ...string) string {
	text := r.text(key, fallback)
	if text != fallback && !slices.Contains(allowed, text) {
		r.bad(key, text, "must be one of %s", strings.Join(allowed, ", "))
	}
	return text
}

func (r *reader) texts(key string, fallback []string) []string {
	switch v := r.get(key).(type) {
	case nil:
		return fallback
	case []any:
		list := make([]string, 0, len(v))
		for _, item := range v {
			text, ok := item.(string)
			if !ok {
				r.bad(key, v, "must be a list of texts")
				return fallback
			}
			list = append(list, text)
		}
		return list
	default:
		r.bad(key, v, "must be a list of texts")
		return fallback
	}
}

// hostPortOf takes the three forms of spec/config-cli-ops §1.2.
func hostPortOf(v any) (HostPort, error) {
	switch v := v.(type) {
	case string:
		return ParseHostPort(v)
	case []any:
		if len(v) == 2 {
			if host, ok := v[0].(string); ok {
				return newHostPort(host, fmt.Sprint(v[1]))
			}
		}
	case map[string]any:
		host, ok := v["host"].(string)
		if port := v["port"]; ok && port != nil {
			return newHostPort(host, fmt.Sprint(port))
		}
	}
	return HostPort{}, backendai.Errorf(backendai.InvalidArgument, `must be %s, or ["host", port], or { host = "…", port = … }`, hostPortAllowed)
}

func (r *reader) hostPort(key string, fallback HostPort) HostPort {
	v := r.get(key)
	if v == nil {
		return fallback
	}
	a, err := hostPortOf(v)
	if err != nil {
		r.bad(key, v, "%s", messageOf(err))
		return fallback
	}
	return a
}

// hostPorts takes one address, or a list of them, or texts parted by commas.
func (r *reader) hostPorts(key string, fallback HostPort) []HostPort {
	v := r.get(key)
	if v == nil {
		return []HostPort{fallback}
	}
	if a, err := hostPortOf(v); err == nil {
		return []HostPort{a}
	}
	items, ok := v.([]any)
	if text, isText := v.(string); isText {
		for part := range strings.SplitSeq(text, ",") {
			items, ok = append(items, part), true
		}
	}
	var list []HostPort
	for _, item := range items {
		a, err := hostPortOf(item)
		if err != nil {
			ok = false
			break
		}
		list = append(list, a)
	}
	if !ok || len(list) == 0 {
		r.bad(key, v, "must be %s, or a list of them", hostPortAllowed)
		return []HostPort{fallback}
	}
	return list
}

// path resolves against the working directory.
func (r *reader) path(key, fallback string) string {
	text := r.text(key, fallback)
	if text == "" {
		return ""
	}
	abs, err := filepath.Abs(text)
	if err != nil {
		r.bad(key, text, "can't be resolved: %v", err)
	}
	return abs
}

// file must be there.
func (r *reader) file(key string) string {
	path := r.path(key, "")
	if path != "" {
		if st, err := os.Stat(path); err != nil || !st.Mode().IsRegular() {
			r.bad(key, r.get(key), "must be the path of a file that exists")
		}
	}
	return path
}

func (r *reader) size(key string, fallback int64) int64 {
	v := r.get(key)
	if v == nil {
		return fallback
	}
	n, err := backendai.ParseBytes(fmt.Sprint(v))
	if err != nil || n <= 0 {
		r.bad(key, v, "must be a size such as 10M")
		return fallback
	}
	return int64(n)
}

func messageOf(err error) string {
	if e := backendai.AsError(err); e != nil && e.Message != nil {
		return *e.Message
	}
	return err.Error()
}

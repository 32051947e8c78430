package logging

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"backend.ai/manager/config"
)

// console writes "2006-01-02 15:04:05.000 LEVEL logger [pid] message", or "LEVEL message", and the attributes behind it.
type console struct {
	mu      sync.Mutex
	w       io.Writer
	simple  bool
	colored bool
	pid     int
}

const reset = "\x1b[0m"

func color(l slog.Level) string {
	switch {
	case l < slog.LevelInfo:
		return "\x1b[37m"
	case l < slog.LevelWarn:
		return "\x1b[32m"
	case l < slog.LevelError:
		return "\x1b[33m"
	}
	return "\x1b[31m"
}

func (c *console) write(e entry) error {
	var b strings.Builder
	level := config.LevelName(e.Level)
	if c.colored {
		level = color(e.Level) + level + reset
	}
	if !c.simple {
		b.WriteString(e.Time.Local().Format("2006-01-02 15:04:05.000 "))
		fmt.Fprintf(&b, "%s %s [%d] ", level, e.logger, c.pid)
	} else {
		b.WriteString(level + " ")
	}
	b.WriteString(text(e))
	b.WriteByte('\n')
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := io.WriteString(c.w, b.String())
	return err
}

// text is the message and its attributes as key=value.
func text(e entry) string {
	var b strings.Builder
	b.WriteString(e.Message)
	for _, a := range e.attrs {
		v := a.Value.String()
		if v == "" || strings.ContainsAny(v, " \"=\n\t") {
			v = strconv.Quote(v)
		}
		b.WriteString(" " + a.Key + "=" + v)
	}
	return b.String()
}

// jsonLines writes the file's form: timestamp, level, name, processName, message, exc_info, and our attributes below "attrs".
type jsonLines struct{ w io.Writer }

func (j *jsonLines) write(e entry) error {
	line := struct {
		Timestamp   string         `json:"timestamp"`
		Level       string         `json:"level"`
		Name        string         `json:"name"`
		ProcessName string         `json:"processName"`
		Message     string         `json:"message"`
		ExcInfo     string         `json:"exc_info,omitempty"`
		Attrs       map[string]any `json:"attrs,omitempty"`
	}{e.Time.UTC().Format("2006-01-02T15:04:05.000000Z"), config.LevelName(e.Level), e.logger, "MainProcess", e.Message, e.err, attrMap(e.attrs)}
	text, err := encode(line)
	if err != nil {
		return err
	}
	_, err = j.w.Write(text)
	return err
}

// attrMap keeps what JSON knows and turns the rest into text.
func attrMap(attrs []slog.Attr) map[string]any {
	if len(attrs) == 0 {
		return nil
	}
	m := make(map[string]any, len(attrs))
	for _, a := range attrs {
		switch a.Value.Kind() {
		case slog.KindBool, slog.KindInt64, slog.KindUint64:
			m[a.Key] = a.Value.Any()
		default:
			m[a.Key] = a.Value.String()
		}
	}
	return m
}

func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b) // ends with a newline
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return b.Bytes(), err
}

// logstash makes the records of spec/config-cli-ops §1.5.
type logstash struct {
	send func([]byte)
	host string
}

func newLogstash(s *sender) *logstash {
	host, _ := os.Hostname()
	return &logstash{send: s.enqueue, host: host}
}

func (l *logstash) write(e entry) error {
	frame, _ := runtime.CallersFrames([]uintptr{e.PC}).Next()
	tags := []string{}
	var exception *string
	if e.err != "" {
		tags, exception = []string{"has_exception"}, &e.err
	}
	text, err := encode(struct {
		Timestamp string         `json:"@timestamp"`
		Version   int            `json:"@version"`
		Host      string         `json:"host"`
		Logger    string         `json:"logger"`
		Path      string         `json:"path"`
		Func      string         `json:"func"`
		Line      int            `json:"lineno"`
		Message   string         `json:"message"`
		Level     string         `json:"level"`
		Tags      []string       `json:"tags"`
		Exception *string        `json:"exception,omitempty"`
		Attrs     map[string]any `json:"attrs,omitempty"`
	}{e.Time.Local().Format(time.RFC3339Nano), 1, l.host, e.logger, filepath.Base(frame.File), frame.Function, frame.Line, e.Message, config.LevelName(e.Level), tags, exception, attrMap(e.attrs)})
	if err == nil {
		l.send(text)
	}
	return err
}

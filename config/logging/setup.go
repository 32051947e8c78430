package logging

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/mattn/go-isatty"

	"backend.ai/manager/config"
)

// Root is the namespace of the whole program.
const Root = "ai.backend"

// nameKey is the attribute that names a logger; handlers take it out of the record.
const nameKey = "logger"

// Named gives the logger a name below Root.
func Named(log *slog.Logger, name string) *slog.Logger {
	return log.With(nameKey, Root+"."+strings.TrimPrefix(name, Root+"."))
}

// System is a set of open log outputs.
type System struct {
	// Logger logs as Root.
	Logger  *slog.Logger
	closers []io.Closer
	sender  *sender
}

// Dropped counts the records that could not be sent to logstash.
func (s *System) Dropped() int64 {
	if s.sender == nil {
		return 0
	}
	return s.sender.dropped.Load()
}

// Setup opens the outputs. stderr may be nil for the process's own. Errors: those of opening the log file. Close it last of all.
func Setup(cfg config.Logging, stderr io.Writer) (*System, error) {
	if stderr == nil {
		stderr = os.Stderr
	}
	s := &System{}
	var outs []output
	if c := cfg.Console; c != nil {
		colored := false
		if f, ok := stderr.(*os.File); ok {
			colored = isatty.IsTerminal(f.Fd())
		}
		if c.Colored != nil {
			colored = *c.Colored
		}
		outs = append(outs, &console{w: stderr, simple: c.Simple, colored: colored, pid: os.Getpid()})
	}
	if f := cfg.File; f != nil {
		r, err := openRotating(f.Dir, f.Name, f.RotationSize, f.Backups)
		if err != nil {
			return nil, err
		}
		s.closers = append(s.closers, r)
		outs = append(outs, &jsonLines{w: r})
	}
	if l := cfg.Logstash; l != nil {
		s.sender = startSender(*l)
		s.closers = append(s.closers, s.sender)
		outs = append(outs, newLogstash(s.sender))
	}
	s.Logger = slog.New(newHandler(cfg, outs))
	return s, nil
}

// Close flushes and closes the outputs. Records logged afterwards are lost.
func (s *System) Close() error {
	var errs []error
	for _, c := range s.closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// output writes finished records; it is called from many goroutines.
type output interface {
	write(r entry) error
}

// entry is a record with its logger's name and all attributes flattened.
type entry struct {
	slog.Record
	logger string
	attrs  []slog.Attr
	err    string // text of the attribute that holds an error, for exc_info
}

// handler is a slog.Handler over several outputs.
type handler struct {
	cfg   config.Logging
	outs  []output
	name  string
	floor slog.Level
	attrs []slog.Attr
	group string
}

func newHandler(cfg config.Logging, outs []output) *handler {
	return (&handler{cfg: cfg, outs: outs}).named(Root)
}

func (h *handler) named(name string) *handler {
	c := *h
	c.name, c.floor = name, Threshold(h.cfg, name)
	return &c
}

// Threshold is the lowest level that a logger of this name lets through: the larger of the overall level and that of the longest
// configured prefix at a dot. Without any match the overall level counts alone.
func Threshold(cfg config.Logging, name string) slog.Level {
	floor := cfg.Level.Slog()
	for prefix := name; ; {
		if l, ok := cfg.Namespaces[prefix]; ok {
			return max(floor, l.Slog())
		}
		if prefix == "" {
			return floor
		}
		prefix = prefix[:max(strings.LastIndexByte(prefix, '.'), 0)]
	}
}

func (h *handler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.floor }

func (h *handler) Handle(_ context.Context, r slog.Record) error {
	e := entry{Record: r, logger: h.name, attrs: h.attrs[:len(h.attrs):len(h.attrs)]}
	r.Attrs(func(a slog.Attr) bool {
		e.attrs = flatten(e.attrs, h.group, a)
		return true
	})
	for _, a := range e.attrs {
		if err, ok := a.Value.Any().(error); ok && r.Level >= slog.LevelError {
			e.err = err.Error()
		}
	}
	var errs []error
	for _, o := range h.outs {
		errs = append(errs, o.write(e))
	}
	return errors.Join(errs...)
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := h
	for _, a := range attrs {
		if a.Key == nameKey && h.group == "" && a.Value.Kind() == slog.KindString {
			c = c.named(a.Value.String())
			continue
		}
		d := *c
		d.attrs = flatten(c.attrs[:len(c.attrs):len(c.attrs)], h.group, a)
		c = &d
	}
	return c
}

func (h *handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	c := *h
	c.group = h.group + name + "."
	return &c
}

// flatten resolves LogValuers (which is what hides secrets) and joins groups with dots.
func flatten(list []slog.Attr, prefix string, a slog.Attr) []slog.Attr {
	v := a.Value.Resolve()
	if v.Kind() != slog.KindGroup {
		if a.Key == "" && v.Equal(slog.Value{}) {
			return list
		}
		return append(list, slog.Attr{Key: prefix + a.Key, Value: v})
	}
	if a.Key != "" {
		prefix += a.Key + "."
	}
	for _, inner := range v.Group() {
		list = flatten(list, prefix, inner)
	}
	return list
}

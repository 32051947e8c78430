package config

import (
	"log/slog"
	"slices"
	"strings"
)

// Level is a threshold of the original's names.
type Level string

// Levels lists the names from loud to quiet; NOTSET lets everything through.
var Levels = []Level{"NOTSET", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}

// LevelCritical is above slog's own levels.
const LevelCritical = slog.LevelError + 4

// Slog is the threshold in slog's terms.
func (l Level) Slog() slog.Level {
	switch l {
	case "NOTSET":
		return slog.LevelDebug - 100
	case "DEBUG":
		return slog.LevelDebug
	case "WARNING":
		return slog.LevelWarn
	case "ERROR":
		return slog.LevelError
	case "CRITICAL":
		return LevelCritical
	}
	return slog.LevelInfo
}

// LevelName is the original's name of a record's level.
func LevelName(l slog.Level) string {
	switch {
	case l < slog.LevelInfo:
		return "DEBUG"
	case l < slog.LevelWarn:
		return "INFO"
	case l < slog.LevelError:
		return "WARNING"
	case l < LevelCritical:
		return "ERROR"
	}
	return "CRITICAL"
}

func levelOf(text string) (Level, bool) {
	l := Level(strings.ToUpper(strings.TrimSpace(text)))
	return l, slices.Contains(Levels, l)
}

// defaultNamespaces stand when the file has no pkg-ns (spec/config-cli-ops §1.5).
func defaultNamespaces() map[string]Level {
	return map[string]Level{"": "WARNING", "ai.backend": "INFO", "tests": "DEBUG"}
}

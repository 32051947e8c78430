package node

import (
	"bytes"
	"log/slog"
	"testing"
)

func TestOnlyWarningsOfTheActorLibraryAreLogged(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(quiet{slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})}).With("a", 1).WithGroup("g")
	log.Info("dead letter", "message", "contents")
	if out.Len() > 0 {
		t.Errorf("logged %s", &out)
	}
	log.Warn("w")
	if out.Len() == 0 {
		t.Error("a warning was lost")
	}
}

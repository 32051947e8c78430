// Command backend.ai runs a manager (mgr), a whole cluster on one machine (up), and is a small client of the API (run, ps, rm, logs).
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"backend.ai/manager/cmd/backend.ai/server"
	"backend.ai/manager/config"
)

func main() {
	cfg, err := config.Load(config.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s := server.New(cfg, slog.Default())
	if err := s.Start(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	<-ctx.Done()
	stopping, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := s.Stop(stopping); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

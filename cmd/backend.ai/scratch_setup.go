package main

import (
	"context"
	"fmt"
	"os"

	"backend.ai/manager/persistence/postgres"
	"backend.ai/manager/persistence/postgres/fixture"
	"backend.ai/manager/persistence/postgres/schema"
)

func init() {
	if len(os.Args) < 2 || os.Args[1] != "scratch" {
		return
	}
	ctx := context.Background()
	pool, err := postgres.Connect(ctx, postgres.Config{Addr: "127.0.0.1:8100", Name: "backend", User: "postgres", Password: "develove"})
	if err != nil {
		panic(err)
	}
	if _, err := schema.Oneshot(ctx, pool, func(s string) { fmt.Println(s) }); err != nil {
		panic(err)
	}
	f, _ := os.Open(os.Args[2])
	fmt.Println(fixture.Populate(ctx, pool, f))
	os.Exit(0)
}

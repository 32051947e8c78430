package images

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/postgres/dbtest"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

func sample(architecture string) Image {
	return Image{
		Canonical: "cr.example/stable/python:3.9", Registry: "cr.example", Name: "stable/python", Tag: "3.9", Architecture: architecture,
		Digest: "sha256:" + "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", SizeBytes: 5 << 30, Accelerators: []string{"cuda", "rocm"},
		Labels: map[string]string{"ai.backend.kernelspec": "1"}, Resources: backendai.ImageResources{"cpu": {Min: "1"}},
	}
}

func TestImages(t *testing.T) {
	pool, ctx := dbtest.New(t), t.Context()
	want := sample("x86_64")
	if err := Put(ctx, pool, want); err != nil {
		t.Fatal(err)
	}
	want.Digest = "sha256:" + "ff23456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	if err := Put(ctx, pool, want); err != nil { // again: the same row
		t.Fatal(err)
	}
	list, err := List(ctx, pool)
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	got := list[0]
	if d := cmp.Diff(want, got, cmpopts.IgnoreFields(Image{}, "ID", "CreatedAt"), cmpopts.EquateEmpty()); d != "" {
		t.Error(d)
	}
	if err := Alias(ctx, pool, "py", got); err != nil {
		t.Fatal(err)
	}
	if err := Alias(ctx, pool, "py", got); !errors.Is(err, backendai.InvalidArgument) {
		t.Error(err)
	}
	for _, c := range []struct {
		text, architecture string
		want               error
	}{
		{"cr.example/stable/python:3.9", "x86_64", nil}, {"cr.example/stable/python:3.9", "amd64", nil}, {"py", "x86_64", nil}, {"py", "", nil},
		{"py", "aarch64", backendai.ImageNotFound}, {"perl", "x86_64", backendai.ImageNotFound}, {"a b://", "", backendai.ImageNotFound},
	} {
		i, err := Find(ctx, pool, c.text, c.architecture)
		if !errors.Is(err, c.want) || c.want == nil && (i.ID != got.ID || len(i.Aliases) != 1) {
			t.Error(c, i, err)
		}
	}
	if err := Put(ctx, pool, sample("aarch64")); err != nil {
		t.Fatal(err)
	}
	if _, err := Find(ctx, pool, got.Canonical, ""); !errors.Is(err, backendai.InvalidArgument) {
		t.Error("nobody can know which is meant:", err)
	}
	if err := Forget(ctx, pool, got.ID); err != nil {
		t.Fatal(err)
	}
	if err := Dealias(ctx, pool, "py"); !errors.Is(err, backendai.ObjectNotFound) {
		t.Error("the alias outlived its image:", err)
	}
}

func TestLimits(t *testing.T) {
	pool, ctx := dbtest.New(t), t.Context()
	if err := Put(ctx, pool, sample("x86_64")); err != nil {
		t.Fatal(err)
	}
	i, err := Find(ctx, pool, "cr.example/stable/python:3.9", "")
	if err != nil {
		t.Fatal(err)
	}
	text := func(s string) *string { return &s }
	for _, c := range []struct {
		slot      backendai.SlotName
		low, high *string
		ok        bool
	}{
		{"cpu", nil, text("4"), true}, {"cpu", text("8"), nil, false}, {"mem", text("1g"), text("16g"), true}, {"mem", text("lots"), nil, false}, {"cuda.shares", text("0.5"), nil, true},
	} {
		if err := SetLimit(ctx, pool, i.ID, c.slot, c.low, c.high); (err == nil) != c.ok {
			t.Error(c.slot, err)
		}
	}
	i, err = Find(ctx, pool, "cr.example/stable/python:3.9", "")
	want := backendai.ImageResources{"cpu": {Min: "1", Max: text("4")}, "mem": {Min: "1g", Max: text("16g")}, "cuda.shares": {Min: "0.5"}}
	if d := cmp.Diff(want, i.Resources); d != "" || err != nil {
		t.Error(d, err)
	}
}

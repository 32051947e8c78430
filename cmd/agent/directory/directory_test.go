package directory

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"testing"
	"time"

	"backend.ai/manager/config/shared"
	"backend.ai/manager/config/shared/etcdtest"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestDirectory(t *testing.T) {
	s := etcdtest.New(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	d, err := Open(ctx, shared.Config{Endpoints: []string{s.Endpoint}, Namespace: "t", Agent: "i-one", ScalingGroup: "g"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Announce(ctx, "starting", "10.0.0.1"); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"/sorna/t/nodes/agents/i-one/": "starting", "/sorna/t/nodes/agents/i-one/ip": "10.0.0.1"} {
		res, err := d.client.Etcd().Get(ctx, key)
		if err != nil || len(res.Kvs) != 1 || string(res.Kvs[0].Value) != want {
			t.Error(key, res, err)
		}
	}
	if c, err := d.Redis(ctx); err != nil || c.Addr != "127.0.0.1:6379" {
		t.Error(c, err)
	}
	put := func(key, value string) {
		if _, err := d.client.Etcd().Put(ctx, "/sorna/t/"+key, value, []clientv3.OpOption{}...); err != nil {
			t.Fatal(err)
		}
	}
	put("config/redis/addr", "one:1")
	put("sgroup/g/config/redis/addr", "two:2")
	put("config/redis/password", "secret")
	if c, err := d.Redis(ctx); err != nil || c.Addr != "two:2" || c.Password.Reveal() != "secret" {
		t.Error(c, err)
	}
	there := make(chan error)
	go func() { there <- d.AwaitManager(ctx) }()
	put("nodes/manager/m1", "up")
	if err := <-there; err != nil {
		t.Error(err)
	}
}

func TestAddress(t *testing.T) {
	local := []net.Addr{&net.IPNet{IP: net.IPv4(127, 0, 0, 1)}, &net.IPNet{IP: net.IPv4(10, 1, 2, 3)}}
	names := func(name string) ([]net.IP, error) {
		if name == "known" {
			return []net.IP{net.ParseIP("::1"), net.IPv4(10, 9, 9, 9)}, nil
		}
		return nil, errors.New("unknown")
	}
	for _, c := range [][3]string{{"10.1.0.0/16", "known", "10.1.2.3"}, {"0.0.0.0/0", "known", "10.9.9.9"}, {"", "unknown", "127.0.0.1"}, {"192.168.0.0/16", "known", ""}, {"x", "known", ""}} {
		got, err := Address(c[0], c[1], local, names)
		if got != c[2] || (err != nil) != (c[2] == "") {
			t.Error(c, got, err)
		}
	}
}

package up

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/server/v3/embed"

	backendai "backend.ai/manager"
)

// startEtcd runs an etcd in this process, on loopback ports, and returns when it serves.
func startEtcd(ctx context.Context, dir, logs string, clientPort, peerPort int) (*embed.Etcd, error) {
	cfg := embed.NewConfig()
	cfg.Dir = dir
	cfg.LogLevel = "warn"
	cfg.LogOutputs = []string{filepath.Join(logs, "etcd.log")}
	cfg.EnableGRPCGateway = false // a web page could speak with it
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = "periodic", "1h"
	cfg.TickMs, cfg.ElectionMs = 50, 500 // a single member waits for nobody
	address := func(port int) []url.URL {
		return []url.URL{{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", port)}}
	}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = address(clientPort), address(clientPort)
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = address(peerPort), address(peerPort)
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return nil, backendai.Errorf(backendai.ServerMisconfigured, "etcd does not start").WithCause(err)
	}
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	select {
	case <-e.Server.ReadyNotify():
		return e, nil
	case err = <-e.Err():
	case <-ctx.Done():
		err = ctx.Err()
	case <-limit.C:
		err = backendai.NewError(backendai.DeadlineExceeded)
	}
	e.Close()
	return nil, fmt.Errorf("etcd does not get ready: %w", err)
}

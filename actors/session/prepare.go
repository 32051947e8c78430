package session

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/actors/services"
	"backend.ai/manager/persistence/postgres/record"
)

// networkTimeout bounds the creation of a network on an agent.
const networkTimeout = 30 * time.Second

// prepareLaunch gets ready what a start needs: image and policy from the store, a key pair, a network. It runs on a worker.
func prepareLaunch(ctx context.Context, svc *services.Services, rows []record.Kernel, e Prepare, p *Prepared) (err error) {
	if p.Launch == nil {
		if p.Launch, err = svc.Store.Launch(ctx, rows); err != nil {
			return err
		}
	}
	if e.Keys {
		if p.Keys, err = clusterKeys(); err != nil {
			return fmt.Errorf("make the session's SSH key pair: %w", err)
		}
	}
	if e.Network == nil {
		return nil
	}
	if e.Network.Mode == backendai.MultiNode {
		created, err := svc.Networks.CreateOverlay(ctx, e.Network.Name, p.Launch.OverlayMTU)
		if created {
			p.Network = e.Network.Name
		}
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, networkTimeout)
	defer cancel()
	peer := callosum.Peer{AgentID: e.Network.Agent, Address: *rows[0].AgentAddr}
	if _, err := callosum.InvokeContext(ctx, svc.Agents, peer, callosum.NetworkCall{Verb: callosum.CreateLocalNetwork, Name: e.Network.Name}, callosum.Fence{}); err != nil {
		return err
	}
	p.Network = e.Network.Name
	return nil
}

// clusterKeys makes the key pair by which the containers of a session reach each other (spec/agent-protocol §4.6).
func clusterKeys() (*callosum.SSHKeyPair, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	public, err := ssh.NewPublicKey(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	private := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public))) + " work@cluster.backend.ai.local"
	return &callosum.SSHKeyPair{PrivateKey: string(private), PublicKey: line}, nil
}

// removeNetwork removes a session's network; a failure is logged, as nobody waits for it.
func (a *Actor) removeNetwork(n Network) {
	addr := ""
	if p := a.core.main().Row.AgentAddr; p != nil {
		addr = *p
	}
	id := a.core.ID
	a.work(func(ctx context.Context) any {
		var err error
		if n.Mode == backendai.MultiNode {
			err = a.svc.Networks.RemoveOverlay(ctx, n.Name)
		} else {
			ctx, cancel := context.WithTimeout(ctx, networkTimeout)
			defer cancel()
			_, err = callosum.InvokeContext(ctx, a.svc.Agents, callosum.Peer{AgentID: n.Agent, Address: addr}, callosum.NetworkCall{Verb: callosum.DestroyLocalNetwork, Name: n.Name}, callosum.Fence{})
		}
		if err != nil {
			a.svc.Log.Warn("a session's network was not removed", "session", id, "network", n.Name, "error", err)
		}
		return nil
	})
}

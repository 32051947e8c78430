package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/api/signing"
)

const apiVersion = "v6.20220315"

// client signs and sends requests over kept connections.
type client struct {
	base   *url.URL
	access string
	secret backendai.SecretKey
	http   *http.Client

	mu     sync.Mutex
	day    string
	signer *signing.Key
}

// key is the signing key of the day.
func (c *client) key(now time.Time) *signing.Key {
	c.mu.Lock()
	defer c.mu.Unlock()
	if day := now.Format(signing.Day); day != c.day {
		method, err := signing.ParseMethod(signing.DefaultMethod)
		if err != nil {
			panic(err) // a constant of the package
		}
		c.day, c.signer = day, signing.DeriveKey(method, c.secret, day, c.base.Host)
	}
	return c.signer
}

func newClient(endpoint, access, secret string, connections int) (*client, error) {
	base, err := url.Parse(endpoint)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{MaxIdleConns: connections, MaxIdleConnsPerHost: connections, MaxConnsPerHost: connections,
		DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext, DisableCompression: true}
	return &client{base: base, access: access, secret: backendai.SecretKey(secret), http: &http.Client{Transport: transport, Timeout: 2 * time.Minute}}, nil
}

// do sends one request; a status of 400 and above is an error with the body's beginning.
func (c *client) do(ctx context.Context, method, target string, body any, into any) error {
	var payload []byte
	if body != nil {
		var err error
		if payload, err = json.Marshal(body); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base.Scheme+"://"+c.base.Host+target, bytes.NewReader(payload))
	if err != nil {
		return err
	}
	now := time.Now().UTC()
	date := now.Format("2006-01-02T15:04:05.000000+00:00")
	signature := c.key(now).Sign(signing.Subject{Method: method, Target: target, Date: date, Host: c.base.Host, ContentType: "application/json", Version: apiVersion})
	req.Header.Set("Date", date)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-BackendAI-Version", apiVersion)
	req.Header.Set("Authorization", fmt.Sprintf("BackendAI signMethod=HMAC-SHA256, credential=%s:%s", c.access, signature))
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 400 {
		return fmt.Errorf("%s %s: %d %.200s", method, target, resp.StatusCode, answer)
	}
	if into != nil {
		return json.Unmarshal(answer, into)
	}
	return nil
}

type session struct {
	ID     string `json:"sessionId"`
	Name   string `json:"sessionName"`
	Status string `json:"status"`
}

// create asks for a session and waits until it runs, or not.
func (c *client) create(ctx context.Context, name, image string, wait bool) (s session, err error) {
	err = c.do(ctx, "POST", "/session", map[string]any{
		"name": name, "image": image, "type": "interactive", "enqueueOnly": !wait, "maxWaitSeconds": 60, "reuseIfExists": false,
		"config": map[string]any{"resources": map[string]string{"cpu": "1", "mem": "256m"}},
	}, &s)
	return s, err
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/api/signing"
)

const apiVersion = "v6.20220315"

// client signs requests.
type client struct {
	endpoint string
	group    string // scaling group of new sessions; "": the first that is allowed
	host     string
	http     *http.Client

	mu  sync.Mutex
	day string
	key *signing.Key
}

func newClient(endpoint string, connections int) *client {
	transport := &http.Transport{MaxIdleConns: connections, MaxIdleConnsPerHost: connections, DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext, DisableCompression: true}
	return &client{endpoint: endpoint, host: strings.TrimPrefix(endpoint, "http://"), http: &http.Client{Transport: transport}}
}

func (c *client) signer(now time.Time) *signing.Key {
	c.mu.Lock()
	defer c.mu.Unlock()
	if day := now.Format(signing.Day); day != c.day {
		method, err := signing.ParseMethod(signing.DefaultMethod)
		if err != nil {
			panic(err) // a constant of the package
		}
		c.day, c.key = day, signing.DeriveKey(method, backendai.SecretKey(secretKey), day, c.host)
	}
	return c.key
}

// do sends a request. status 0: there was no answer, and err says why; an answer of 400 and more has an err with its beginning.
func (c *client) do(ctx context.Context, method, target string, body, into any) (status int, err error) {
	var payload []byte
	if body != nil {
		if payload, err = json.Marshal(body); err != nil {
			return 0, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, c.endpoint+target, bytes.NewReader(payload))
	if err != nil {
		return 0, err
	}
	now := time.Now().UTC()
	date := now.Format("2006-01-02T15:04:05.000000+00:00")
	signature := c.signer(now).Sign(signing.Subject{Method: method, Target: target, Date: date, Host: c.host, ContentType: "application/json", Version: apiVersion})
	req.Header.Set("Date", date)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-BackendAI-Version", apiVersion)
	req.Header.Set("Authorization", fmt.Sprintf("BackendAI signMethod=HMAC-SHA256, credential=%s:%s", accessKey, signature))
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode >= 400 {
		return resp.StatusCode, fmt.Errorf("%d %.300s", resp.StatusCode, bytes.TrimSpace(answer))
	}
	if into != nil {
		err = json.Unmarshal(answer, into)
	}
	return resp.StatusCode, err
}

type session struct {
	ID     string `json:"sessionId"`
	Name   string `json:"sessionName"`
	Status string `json:"status"`
}

// create asks for a session and waits until it runs.
func (c *client) create(ctx context.Context, name string) (s session, status int, err error) {
	config := map[string]any{"resources": map[string]string{"cpu": "1", "mem": "256m"}}
	if c.group != "" {
		config["scaling_group"] = c.group
	}
	status, err = c.do(ctx, "POST", "/session", map[string]any{
		"name": name, "image": image, "type": "interactive", "enqueueOnly": false, "maxWaitSeconds": 60, "reuseIfExists": false, "config": config,
	}, &s)
	return s, status, err
}

// container asks a session which container it is; a pretended agent answers that when it gets no code.
func (c *client) container(ctx context.Context, name string) (id string, status int, err error) {
	var answer struct {
		Result struct {
			Console [][]any `json:"console"`
		} `json:"result"`
	}
	status, err = c.do(ctx, "POST", "/session/"+name, map[string]any{"mode": "query", "code": "", "runId": nil}, &answer)
	if err != nil {
		return "", status, err
	}
	for _, item := range answer.Result.Console {
		if len(item) == 2 {
			id += fmt.Sprint(item[1])
		}
	}
	return strings.TrimSpace(id), status, nil
}

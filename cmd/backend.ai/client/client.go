package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/api/signing"
)

// apiVersion is that of the official 22.03 clients.
const apiVersion = "v6.20220315"

// largestBody bounds what is read of an answer.
const largestBody = 256 << 20

// Config says where the API is and who asks.
type Config struct {
	// Endpoint is the API's URL, http://127.0.0.1:8091.
	Endpoint  string
	AccessKey backendai.AccessKey
	SecretKey backendai.SecretKey
	// SkipVerify accepts any certificate.
	SkipVerify bool
}

// Client sends signed requests. Safe for concurrent use.
type Client struct {
	base   *url.URL
	access backendai.AccessKey
	secret backendai.SecretKey
	http   *http.Client
}

// New checks the configuration; it connects to nothing. Errors: InvalidConfig.
func New(c Config) (*Client, error) {
	base, err := url.Parse(strings.TrimRight(c.Endpoint, "/"))
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
		return nil, backendai.Errorf(backendai.InvalidConfig, "the endpoint %q is no URL such as http://127.0.0.1:8091", c.Endpoint)
	}
	if c.AccessKey == "" || c.SecretKey == "" {
		return nil, backendai.Errorf(backendai.InvalidConfig, "the API needs an access key and a secret key")
	}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout: 10 * time.Second, IdleConnTimeout: time.Minute, TLSClientConfig: &tls.Config{InsecureSkipVerify: c.SkipVerify}, //nolint:gosec // asked for
	}
	return &Client{base: base, access: c.AccessKey, secret: c.SecretKey, http: &http.Client{Transport: transport}}, nil
}

// AccessKey is whose requests these are.
func (c *Client) AccessKey() backendai.AccessKey { return c.access }

// Close lets idle connections go.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Refusal is an answer that says no, or that something failed: a problem document (spec/rest-core §3.1).
type Refusal struct {
	Status  int
	Type    string
	Title   string
	Message string
	Data    json.RawMessage
	Details json.RawMessage // agent-details
}

func (r *Refusal) Error() string {
	text := strings.TrimSuffix(r.Title, ".")
	if text == "" {
		text = http.StatusText(r.Status)
	}
	if r.Message != "" {
		text += ": " + r.Message
	}
	for _, more := range []json.RawMessage{r.Data, r.Details} {
		if len(more) > 0 && string(more) != "null" {
			text += " " + string(more)
		}
	}
	return fmt.Sprintf("%s (%d)", text, r.Status)
}

// Code is the refusal's code in the catalogue, as far as its problem URI tells.
func (r *Refusal) Code() backendai.Code {
	return backendai.Code(r.Type[strings.LastIndexByte(r.Type, '/')+1:])
}

// request signs and sends. A status of 400 and above is a *Refusal. into may be nil.
func (c *Client) request(ctx context.Context, method, path string, query url.Values, body, into any) error {
	resp, err := c.send(ctx, method, path, query, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, largestBody))
	if err != nil {
		return c.brokenOff(err)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%s answered with something else than was asked for: %w", c.base, err)
	}
	return nil
}

func (c *Client) brokenOff(err error) error {
	return backendai.Errorf(backendai.ServiceUnavailable, "%s broke off its answer", c.base).WithCause(err)
}

// send signs and sends, and gives the answer as it comes; the caller closes its body. A status of 400 and above is a *Refusal.
func (c *Client) send(ctx context.Context, method, path string, query url.Values, body any) (*http.Response, error) {
	u := *c.base
	u.Path, u.RawPath = "", ""
	target := c.base.EscapedPath() + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	full, err := url.Parse(u.String() + target)
	if err != nil {
		return nil, err
	}
	var payload []byte
	if body != nil {
		if payload, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, full.String(), bytes.NewReader(payload))
	if err != nil {
		return nil, err
	}
	c.sign(req, time.Now())
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, backendai.Errorf(backendai.ServiceUnavailable, "%s does not answer", c.base).WithCause(err)
	}
	if resp.StatusCode < 400 {
		return resp, nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, largestBody))
	if err != nil {
		return nil, c.brokenOff(err)
	}
	return nil, refusal(resp, text)
}

// sign adds the headers of spec/rest-core §2.
func (c *Client) sign(req *http.Request, now time.Time) {
	const kind = "application/json"
	method, err := signing.ParseMethod(signing.DefaultMethod)
	if err != nil {
		panic(err) // a constant of the package
	}
	now = now.UTC()
	date := now.Format(time.RFC3339)
	key := signing.DeriveKey(method, c.secret, now.Format(signing.Day), req.URL.Host)
	signature := key.Sign(signing.Subject{
		Method: req.Method, Target: req.URL.RequestURI(), Date: date, Host: req.URL.Host, ContentType: kind, Version: apiVersion,
	})
	req.Header.Set("Date", date)
	req.Header.Set("Content-Type", kind)
	req.Header.Set("X-BackendAI-Version", apiVersion)
	req.Header.Set("Authorization", signing.Authorization{Method: signing.DefaultMethod, AccessKey: c.access, Signature: signature}.Header())
}

func refusal(resp *http.Response, text []byte) error {
	r := &Refusal{Status: resp.StatusCode}
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); strings.HasSuffix(kind, "json") {
		var doc struct {
			Type    string          `json:"type"`
			Title   string          `json:"title"`
			Message json.RawMessage `json:"msg"`
			Data    json.RawMessage `json:"data"`
			Details json.RawMessage `json:"agent-details"`
		}
		if json.Unmarshal(text, &doc) == nil {
			r.Type, r.Title, r.Data, r.Details = doc.Type, doc.Title, doc.Data, doc.Details
			if json.Unmarshal(doc.Message, &r.Message) != nil {
				r.Message = string(doc.Message)
			}
		}
	}
	return r
}

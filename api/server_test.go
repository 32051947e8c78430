package api_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	backendai "backend.ai/manager"
	"backend.ai/manager/api"
	"backend.ai/manager/api/params"
	"backend.ai/manager/api/signing"
	"backend.ai/manager/persistence/postgres/accounts"
	"backend.ai/manager/test/golden"
)

// people answers for the keys of the recorded cluster, without a database.
type people struct{}

func (people) Credential(_ context.Context, key backendai.AccessKey) (*accounts.Credential, error) {
	for name, k := range golden.Keys {
		if k.Access != key || name == "unknown" {
			continue
		}
		c := &accounts.Credential{Secret: k.Secret}
		c.Keypair.AccessKey = key
		c.Keypair.IsAdmin = name == "admin" || name == "domain-admin"
		c.User.Role = backendai.RoleUser
		if name == "admin" {
			c.User.Role = backendai.RoleSuperadmin
		}
		return c, nil
	}
	if key == "AKIABROKEN" {
		return nil, errors.New("the database is on fire")
	}
	return nil, nil
}

// zoo has a route for every behaviour.
type zoo struct {
	entered, leave chan struct{}
}

type echoParams struct {
	Echo string
	N    int
}

func (p *echoParams) bind(b *params.Binder) {
	params.Opt(b, &p.Echo, "", params.StrOrBlank, "echo")
	params.Opt(b, &p.N, 0, params.ToInt.Int, "n")
}

func (z *zoo) Register(r *api.Router) {
	echo := func(r *api.Request) error {
		p, err := api.Params(r, (*echoParams).bind)
		if err != nil {
			return err
		}
		return r.JSON(map[string]any{"echo": p.Echo, "n": p.N, "version": r.Version.Major})
	}
	r.GET("/echo", echo)
	r.POST("/echo", echo)
	r.DELETE("/echo", echo)
	r.POST("/ignore", func(r *api.Request) error { return r.JSON("ignored") })
	r.POST("/upload", func(r *api.Request) error {
		n, err := io.Copy(io.Discard, r.BodyStream())
		if err != nil {
			return err
		}
		return r.JSON(n)
	})
	r.GET("/panic", func(*api.Request) error { panic("at the zoo") })
	r.GET("/fail", func(*api.Request) error { return errors.New("secret cause") })
	r.GET("/slow", func(r *api.Request) error {
		ctx, cancel := context.WithTimeout(r.Context(), time.Nanosecond)
		defer cancel()
		<-ctx.Done()
		return fmt.Errorf("query: %w", ctx.Err())
	})
	r.GET("/silent", func(*api.Request) error { return backendai.NewError(backendai.DeadlineExceeded) })
	r.GET("/sorry", func(r *api.Request) error {
		r.SetHeader("X-Left-Over", "x")
		return backendai.NewError(backendai.QuotaExceeded)
	})
	r.GET("/{animal}/name", func(r *api.Request) error { return r.JSON(r.Param("animal")) })
	r.GET("/wait", func(r *api.Request) error {
		z.entered <- struct{}{}
		select {
		case <-z.leave:
			return r.JSON("left")
		case <-r.Context().Done():
			return r.Context().Err()
		}
	})
	r.GET("/patience", func(r *api.Request) error { return r.JSON("waited") }, api.Waits)
	ok := func(r *api.Request) error { return r.JSON(r.Who().Keypair.AccessKey) }
	r.GET("/user", ok, api.Auth)
	r.GET("/admin", ok, api.Admin)
	r.GET("/superadmin", ok, api.Superadmin)
	r.GET("/write", ok, api.AllAllowed, api.Auth)
	r.GET("/read", ok, api.Auth, api.ReadAllowed)
}

func open(t testing.TB, config api.Config, deps api.Deps) (string, *zoo, *api.Server) {
	t.Helper()
	z := &zoo{entered: make(chan struct{}, 10), leave: make(chan struct{})}
	if deps.Credentials == nil {
		deps.Credentials = people{}
	}
	url, s := start(t, config, deps, func(s *api.Server) { s.Mount("/zoo", z) })
	return url, z, s
}

// raw sends bytes and reads as many answers as there are requests in them, over one connection.
func raw(t *testing.T, url string, requests ...string) []*http.Response {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	in := bufio.NewReader(conn)
	var all []*http.Response
	for _, r := range requests {
		if _, err := io.WriteString(conn, strings.ReplaceAll(r, "\n", "\r\n")); err != nil {
			t.Fatal(err)
		}
		method, _, _ := strings.Cut(r, " ")
		res, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			t.Fatalf("%q: %v", r, err)
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		res.Body = io.NopCloser(bytes.NewReader(body))
		all = append(all, res)
	}
	return all
}

func text(t *testing.T, res *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func as(t testing.TB, who, url, method, target string) *http.Request {
	t.Helper()
	req, err := http.NewRequest(method, url+target, nil)
	if err != nil {
		t.Fatal(err)
	}
	m, _ := signing.ParseMethod(signing.DefaultMethod)
	now := time.Now().UTC()
	s := signing.Subject{Method: method, Target: target, Date: now.Format(time.RFC3339), Host: req.URL.Host, ContentType: "application/octet-stream", Version: api.Latest}
	k := golden.Keys[who]
	req.Header.Set("Date", s.Date)
	req.Header.Set("X-BackendAI-Version", s.Version)
	req.Header.Set("Authorization", signing.Authorization{Method: signing.DefaultMethod, AccessKey: k.Access,
		Signature: signing.DeriveKey(m, k.Secret, now.Format(signing.Day), s.Host).Sign(s)}.Header())
	return req
}

func send(t testing.TB, req *http.Request) (int, string, http.Header) {
	t.Helper()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body), res.Header
}

func get(t testing.TB, url string) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return send(t, req)
}

// Requests of all kinds over one connection: each must leave it where the next one begins.
func TestBodies(t *testing.T) {
	url, _, _ := open(t, api.Config{}, api.Deps{})
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	fmt.Fprint(w, `{"echo": "zipped"}`)
	w.Close()
	var bomb bytes.Buffer
	w = gzip.NewWriter(&bomb)
	w.Write(bytes.Repeat([]byte("x"), api.MaxBody))
	w.Close()
	cases := []struct{ request, want string }{
		{"GET /zoo/echo?echo=a HTTP/1.1\nHost: x\n\n", `{"echo": "a", "n": 0, "version": 5}`},
		{"GET /zoo/echo?echo=a HTTP/1.1\nHost: x\nContent-Length: 13\n\n{\"echo\": \"b\"}", `{"echo": "b", "n": 0, "version": 5}`},
		{"DELETE /zoo/echo?echo=a HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\n0\n\n", `{"echo": "a", "n": 0, "version": 5}`},
		{"GET /zoo/echo?echo=a HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\nd\n{\"echo\": \"c\"}\n0\n\n", `{"echo": "c", "n": 0, "version": 5}`},
		{"POST /zoo/echo?echo=a HTTP/1.1\nHost: x\nContent-Length: 0\nContent-Type: text/plain\n\n", `{"echo": "a", "n": 0, "version": 5}`},
		{"POST /zoo/echo?echo=a HTTP/1.1\nHost: x\n\n", `{"echo": "a", "n": 0, "version": 5}`},
		{"POST /zoo/echo HTTP/1.1\nHost: x\nContent-Type: text/yaml\nContent-Length: 10\n\necho: 1\nn:", `blank`},
		{fmt.Sprintf("POST /zoo/echo HTTP/1.1\nHost: x\nContent-Encoding: gzip\nContent-Length: %d\n\n\x00", zipped.Len()), `{"echo": "zipped", "n": 0, "version": 5}`},
		{"POST /zoo/ignore HTTP/1.1\nHost: x\nContent-Length: 13\n\n{\"echo\": \"b\"}", `"ignored"`},
		{"POST /zoo/ignore HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\nd\n{\"echo\": \"c\"}\n0\n\n", `"ignored"`},
		{"POST /zoo/nowhere HTTP/1.1\nHost: x\nContent-Length: 13\n\n{\"echo\": \"b\"}", `{"type": "https://api.backend.ai/probs/url-not-found", "title": "Unknown URL path.", "data": "/zoo/nowhere"}`},
		{"GET /zoo/echo HTTP/1.1\nHost: x\nX-BackendAI-Version: v6.20220615\n\n", `{"echo": "", "n": 0, "version": 6}`},
		{fmt.Sprintf("POST /zoo/upload HTTP/1.1\nHost: x\nContent-Type: multipart/form-data; boundary=x\nContent-Length: %d\n\n%s", 3<<20, strings.Repeat("z", 3<<20)), `3145728`},
		{fmt.Sprintf("POST /zoo/echo HTTP/1.1\nHost: x\nContent-Length: %d\n\n%s", 2<<20, strings.Repeat("z", 2<<20)), `{"type": "https://api.backend.ai/probs/generic-bad-request", "title": "Bad request."}`},
		{fmt.Sprintf("POST /zoo/echo HTTP/1.1\nHost: x\nContent-Encoding: gzip\nContent-Length: %d\n\n\x01", bomb.Len()), `{"type": "https://api.backend.ai/probs/generic-bad-request", "title": "Bad request."}`},
		{"GET /zoo/panic HTTP/1.1\nHost: x\n\n", `{"type": "https://api.backend.ai/probs/internal-server-error", "title": "Internal server error."}`},
		{"GET http://other/zoo/echo?echo=abs HTTP/1.1\nHost: x\n\n", `{"echo": "abs", "n": 0, "version": 5}`},
		{"GET /zoo/echo?echo=last HTTP/1.1\nHost: x\n\n", `{"echo": "last", "n": 0, "version": 5}`},
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	in := bufio.NewReader(conn)
	for _, c := range cases {
		head, body, _ := strings.Cut(c.request, "\n\n")
		switch body {
		case "\x00":
			body = zipped.String()
		case "\x01":
			body = bomb.String()
		}
		if strings.Contains(head, "chunked") {
			body = strings.ReplaceAll(body, "\n", "\r\n")
		}
		if _, err := io.WriteString(conn, strings.ReplaceAll(head, "\n", "\r\n")+"\r\n\r\n"+body); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("%q: %v", head, err)
		}
		got, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		if c.want == "blank" {
			if !strings.Contains(string(got), "value can't be converted to int") {
				t.Errorf("%q: %s", head, got)
			}
			continue
		}
		if string(got) != c.want {
			t.Errorf("%q:\n%s, want\n%s", head, got, c.want)
		}
	}
}

// What a handler leaves unread must never be taken for the next request.
func TestUnreadBodiesCloseTheConnection(t *testing.T) {
	url, _, _ := open(t, api.Config{}, api.Deps{})
	res := raw(t, url, "POST /zoo/ignore HTTP/1.1\nHost: x\nContent-Length: 104857600\n\n"+strings.Repeat("GET /zoo/echo?echo=smuggled HTTP/1.1\nHost: x\n\n", 300))
	if !res[0].Close {
		t.Error("the connection is kept although a body was not read")
	}
}

func TestErrors(t *testing.T) {
	var failures []api.Failure
	var mu sync.Mutex
	url, _, _ := open(t, api.Config{}, api.Deps{Failed: func(f api.Failure) { mu.Lock(); defer mu.Unlock(); failures = append(failures, f) }})
	for target, want := range map[string]string{
		"/zoo/fail":   `500 {"type": "https://api.backend.ai/probs/internal-server-error", "title": "Internal server error."}`,
		"/zoo/slow":   `503 {"type": "https://api.backend.ai/probs/service-unavailable", "title": "Serivce unavailable.", "msg": "Something that the manager needs takes too long to answer; try again."}`,
		"/zoo/silent": `503 {"type": "https://api.backend.ai/probs/service-unavailable", "title": "Serivce unavailable.", "msg": "Something that the manager needs takes too long to answer; try again."}`,
		"/zoo/panic":  `500 {"type": "https://api.backend.ai/probs/internal-server-error", "title": "Internal server error."}`,
		"/zoo/sorry":  `412 {"type": "https://api.backend.ai/probs/quota-exceeded", "title": "You have reached your resource limit."}`,
		"/zoo%2Fecho": `404 {"type": "https://api.backend.ai/probs/url-not-found", "title": "Unknown URL path.", "data": "/zoo/echo"}`,
		"//zoo/echo":  `404 {"type": "https://api.backend.ai/probs/url-not-found", "title": "Unknown URL path.", "data": "//zoo/echo"}`,
	} {
		status, body, header := get(t, url+target)
		if got := fmt.Sprint(status, " ", body); got != want {
			t.Errorf("%s: %s, want %s", target, got, want)
		}
		if header.Get("X-RateLimit-Limit") != "" || header.Get("X-Left-Over") != "" || header.Get("Content-Type") != backendai.ProblemContentType {
			t.Errorf("%s: headers %v", target, header)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(failures) != 2 {
		t.Errorf("failures %v", failures)
	}
	debug, _, _ := open(t, api.Config{Debug: true}, api.Deps{})
	if _, body, _ := get(t, debug+"/zoo/fail"); !strings.Contains(body, "secret cause") {
		t.Error("debugging shows no cause", body)
	}
}

func TestPathVariables(t *testing.T) {
	url, _, _ := open(t, api.Config{}, api.Deps{})
	for path, want := range map[string]string{"/zoo/lion/name": `"lion"`, "/zoo/a%2Fb/name": `"a/b"`, "/%7a%6Fo/x%20y/n%61me": `"x y"`, "/zoo/%EC%82%AC%EC%9E%90/name": `"\uc0ac\uc790"`} {
		if status, body, _ := get(t, url+path); status != 200 || body != want {
			t.Errorf("%s: %d %s, want %s", path, status, body, want)
		}
	}
	res := raw(t, url, "GET /zoo/{x}/name HTTP/1.1\nHost: x\n\n")
	if res[0].StatusCode != 404 {
		t.Error("a brace in a variable", res[0].Status)
	}
}

func TestRolesAndStatus(t *testing.T) {
	status := api.Running
	var mu sync.Mutex
	url, _, _ := open(t, api.Config{}, api.Deps{Status: func() api.Status { mu.Lock(); defer mu.Unlock(); return status }})
	for _, c := range []struct {
		status      api.Status
		who, target string
		want        int
		slug        string
	}{
		{api.Running, "user", "/zoo/user", 200, ""}, {api.Running, "user", "/zoo/admin", 401, "auth-failed"}, {api.Running, "user", "/zoo/superadmin", 401, "auth-failed"},
		{api.Running, "domain-admin", "/zoo/admin", 200, ""}, {api.Running, "domain-admin", "/zoo/superadmin", 401, "auth-failed"},
		{api.Running, "admin", "/zoo/superadmin", 200, ""}, {api.Running, "monitor", "/zoo/admin", 401, "auth-failed"},
		{api.Running, "unknown", "/zoo/user", 401, "auth-failed"},
		{api.Frozen, "user", "/zoo/read", 200, ""}, {api.Frozen, "user", "/zoo/write", 503, "server-frozen"}, {api.Frozen, "user", "/zoo/user", 200, ""},
		{"terminated", "user", "/zoo/read", 503, "service-unavailable"}, {"terminated", "user", "/zoo/write", 503, "service-unavailable"},
	} {
		mu.Lock()
		status = c.status
		mu.Unlock()
		got, body, header := send(t, as(t, c.who, url, "GET", c.target))
		if got != c.want || !strings.Contains(body, c.slug) || header.Get("Retry-After") != "" {
			t.Errorf("%s as %s while %s: %d %s", c.target, c.who, c.status, got, body)
		}
	}
}

func TestRateLimit(t *testing.T) {
	limiter := &counter{counts: map[string]int{string(golden.Keys["user"].Access): api.DefaultRateLimit - 1}}
	url, _, _ := open(t, api.Config{}, api.Deps{RateLimiter: limiter})
	status, _, header := send(t, as(t, "user", url, "GET", "/zoo/user"))
	if status != 200 || header.Get("X-RateLimit-Remaining") != "0" || header.Get("X-RateLimit-Limit") != "1000" || header.Get("X-RateLimit-Window") != "900" {
		t.Error(status, header)
	}
	status, body, header := send(t, as(t, "user", url, "GET", "/zoo/user"))
	if status != 429 || body != `{"type": "https://api.backend.ai/probs/rate-limit-exceeded", "title": "You have reached your API query rate limit."}` || header.Get("X-RateLimit-Limit") != "" {
		t.Error(status, body, header)
	}
	if status, _, _ := send(t, as(t, "admin", url, "GET", "/zoo/user")); status != 200 {
		t.Error("others are limited, too")
	}
	broken, _, _ := open(t, api.Config{}, api.Deps{RateLimiter: brokenLimiter{}})
	if status, _, header := send(t, as(t, "user", broken, "GET", "/zoo/user")); status != 200 || header.Get("X-RateLimit-Remaining") != "1000" {
		t.Error("requests hang on the counter", status, header)
	}
}

type brokenLimiter struct{}

func (brokenLimiter) Check(ctx context.Context, _ string, _ int, _ time.Duration) (int, error) {
	<-ctx.Done()
	return 0, ctx.Err()
}

func TestAdmission(t *testing.T) {
	url, z, _ := open(t, api.Config{MaxRunning: 1}, api.Deps{})
	first := make(chan int)
	go func() { status, _, _ := get(t, url+"/zoo/wait"); first <- status }()
	<-z.entered
	status, body, header := get(t, url+"/zoo/echo")
	if status != 503 || header.Get("Retry-After") != "1" || !strings.Contains(body, "service-unavailable") {
		t.Error(status, body, header)
	}
	if status, _, _ := get(t, url+"/zoo/patience"); status != 200 {
		t.Error("requests that wait are admitted apart", status)
	}
	close(z.leave)
	if status := <-first; status != 200 {
		t.Error(status)
	}
	if status, _, _ := get(t, url+"/zoo/echo"); status != 200 {
		t.Error("no room after the request is done", status)
	}
}

func TestStopLetsRequestsFinish(t *testing.T) {
	url, z, s := open(t, api.Config{}, api.Deps{})
	first := make(chan string)
	go func() { _, body, _ := get(t, url+"/zoo/wait"); first <- body }()
	<-z.entered
	stopped := make(chan error)
	go func() { stopped <- s.Stop(context.Background()) }()
	close(z.leave)
	if body := <-first; body != `"left"` {
		t.Error(body)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestStopGivesUpWithItsContext(t *testing.T) {
	url, z, s := open(t, api.Config{}, api.Deps{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		if res, err := http.Get(url + "/zoo/wait"); err == nil {
			res.Body.Close()
		}
	}()
	<-z.entered
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Stop(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	<-done
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	pool := certificate(t, cert, key)
	url, _, _ := open(t, api.Config{CertFile: cert, KeyFile: key}, api.Deps{})
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	defer client.CloseIdleConnections()
	res, err := client.Get(strings.Replace(url, "http:", "https:", 1) + "/zoo/echo")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != 200 || res.ProtoMajor != 1 {
		t.Error(res.Status, res.Proto)
	}
	s := api.New(api.Config{Addr: "127.0.0.1:0", CertFile: key, KeyFile: cert}, api.Deps{Credentials: people{}})
	if err := s.Start(t.Context()); backendai.CodeOf(err) != backendai.InvalidConfig {
		t.Error(err)
	}
}

func certificate(t *testing.T, certFile, keyFile string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := errors.Join(os.WriteFile(certFile, certPEM, 0o600), os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600)); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	return pool
}

func TestMalformedRequests(t *testing.T) {
	url, _, _ := open(t, api.Config{}, api.Deps{})
	res := raw(t, url, "GET /zoo/echo HTTP/1.1\nHost: x\nX-Big: "+strings.Repeat("x", 40_000)+"\n\n")
	if res[0].StatusCode != 400 || !strings.HasPrefix(res[0].Header.Get("Content-Type"), "text/plain") {
		t.Error(res[0].Status, res[0].Header)
	}
	res = raw(t, url, "GET /zoo/echo?echo=x HTTP/1.1\nHost: x\nX-Big: "+strings.Repeat("x", 8000)+"\n\n")
	if res[0].StatusCode != 200 {
		t.Error(res[0].Status)
	}
}

func TestObserve(t *testing.T) {
	seen := make(chan api.Observation, 10)
	url, _, _ := open(t, api.Config{}, api.Deps{Observe: func(o api.Observation) { o.Took = 0; seen <- o }})
	get(t, url+"/zoo/lion/name")
	get(t, url+"/nowhere")
	want := []api.Observation{{Method: "GET", Route: "/zoo/{animal}/name", Status: 200}, {Method: "GET", Status: 404}}
	if diff := cmp.Diff(want, []api.Observation{<-seen, <-seen}); diff != "" {
		t.Error(diff)
	}
}

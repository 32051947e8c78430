package golden

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/api/signing"
)

// Replayer sends the requests of captures to one server.
type Replayer struct {
	// URL of the server, "http://127.0.0.1:1234".
	URL string
	// Differences by name of entry. Each must be met.
	Differences map[string]Difference
	// Always changes every recorded answer, for what differs everywhere (versions).
	Always func(*Response)
	// Skip tells which entries are not sent.
	Skip func(Entry) bool
	// Before changes a request just before it is signed, for bodies that the recording describes instead of holding, and for requests that
	// are to go elsewhere. It may wait until the server is in the state that the recording had.
	Before func(Entry, *http.Request)
	// Both, if set, changes the recorded and the given answer alike before they are compared, for what has to be read to be compared.
	Both func(e Entry, answer *Response)
	// Measured tells which numbers of answers ("body.age") are compared by kind alone.
	Measured func(Entry, string) bool

	client   *http.Client
	bindings *strings.Replacer
	bound    []string // recorded, actual, …
	made     map[backendai.AccessKey]Keypair
}

// RecordedHost is what the captures were signed for.
const RecordedHost = "127.0.0.1:8391"

// Run replays a capture, one subtest per entry, in order.
func (p *Replayer) Run(t *testing.T, entries []Entry) {
	t.Helper()
	if p.client == nil {
		p.client = &http.Client{Transport: &http.Transport{DisableCompression: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		t.Cleanup(p.client.CloseIdleConnections)
		p.bindings, p.made = strings.NewReplacer(), map[backendai.AccessKey]Keypair{}
	}
	met := map[string]bool{}
	shift := time.Since(middle(entries))
	for _, e := range entries {
		met[e.Name] = true
		if p.Skip != nil && p.Skip(e) {
			continue
		}
		t.Run(e.Name, func(t *testing.T) { p.one(t, e, shift) })
	}
	for name := range p.Differences {
		if !met[name] {
			t.Errorf("there is no entry %q to differ from", name)
		}
	}
}

func (p *Replayer) one(t *testing.T, e Entry, shift time.Duration) {
	req, err := p.request(e, shift)
	if err != nil {
		t.Fatal(err)
	}
	res, err := p.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	got := Response{Status: res.StatusCode, Headers: map[string]string{}}
	for k, v := range res.Header {
		got.Headers[k] = strings.Join(v, ", ")
	}
	got.Body = string(text)
	if strings.Contains(got.Headers["Content-Type"], "json") && req.Method != http.MethodHead {
		var v any
		if err := json.Unmarshal(text, &v); err != nil {
			t.Errorf("the body is no JSON: %v", err)
		}
		got.Body = v
	}
	if p.Both != nil {
		p.Both(e, &got)
	}
	d, differs := p.Differences[e.Name]
	if differs {
		if c := p.comparison(e); len(c.compare(p.want(e, nil), got)) == 0 {
			t.Error("the answer is as recorded, though it is meant to differ: " + d.Why)
		}
	}
	want := p.want(e, d.Want)
	c := p.comparison(e)
	c.compare(want, got)
	for _, complaint := range c.complaints {
		t.Error(complaint)
	}
	if t.Failed() {
		t.Logf("%s %s\nwant %s\ngot  %s", req.Method, req.URL, show(want), show(got))
		if differs {
			t.Log("meant to differ: " + d.Why)
		}
	}
	p.bind(c.bindings)
	p.learn(want.Body, got.Body)
}

// want is the recorded answer as it is to be: of all differences, and of the one of this entry unless it is nil.
func (p *Replayer) want(e Entry, differ func(*Response)) Response {
	want := e.Response
	want.Headers = maps.Clone(want.Headers)
	if p.Both != nil {
		p.Both(e, &want)
	}
	body := want.Body
	if p.Always != nil {
		p.Always(&want)
	}
	if differ != nil {
		want.Body = clone(want.Body)
		differ(&want)
	}
	if !reflect.DeepEqual(want.Body, body) {
		delete(want.Headers, "Content-Length") // that of another body
	}
	return want
}

// clone copies decoded JSON, so that differences do not change the recording.
func clone(v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := make(map[string]any, len(v))
		for k, item := range v {
			m[k] = clone(item)
		}
		return m
	case []any:
		l := make([]any, len(v))
		for i, item := range v {
			l[i] = clone(item)
		}
		return l
	}
	return v
}

func (p *Replayer) comparison(e Entry) *comparison {
	c := &comparison{bound: p.bindings}
	if p.Measured != nil {
		c.measured = func(at string) bool { return p.Measured(e, at) }
	}
	return c
}

func show(r Response) string {
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Sprint(r)
	}
	return string(text)
}

// request makes a recorded request current: bound values, date, signature.
func (p *Replayer) request(e Entry, shift time.Duration) (*http.Request, error) {
	body, err := e.Request.bytes()
	if err != nil {
		return nil, err
	}
	body = []byte(p.bindings.Replace(string(body)))
	target := p.bindings.Replace(e.Request.Path)
	req, err := http.NewRequest(e.Request.Method, p.URL+target, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for k, v := range e.Request.Headers {
		req.Header[k] = []string{p.bindings.Replace(v)} // names as recorded
	}
	if p.Before != nil {
		before := req.URL.String()
		if p.Before(e, req); req.URL.String() != before {
			target = req.URL.RequestURI()
		}
	}
	recorded, at, dated := e.Request.date(time.Now())
	to := at.Add(shift)
	if dated {
		// The form may be coarser than the time: what is signed is what the text says.
		text := move(e.Request.Headers[recorded], at, to)
		req.Header[recorded] = []string{text}
		if t, ok := signing.ParseDate(text, time.Now()); ok {
			to = t
		}
	}
	header, signed := e.Request.Headers["Authorization"]
	if !signed {
		return req, nil
	}
	a, err := signing.ParseAuthorization(header)
	if err != nil {
		return req, nil // meant to be refused
	}
	secret, ours := p.secret(e, a, at)
	if !ours {
		return req, nil
	}
	m, err := signing.ParseMethod(a.Method)
	if err != nil {
		return req, nil
	}
	now := Entry{Request: Request{Method: e.Request.Method, Path: target, Headers: map[string]string{}}}
	for k, v := range req.Header {
		now.Request.Headers[k] = v[0]
	}
	a.AccessKey = secret.Access
	a.Signature = signing.DeriveKey(m, secret.Secret, to.Format(signing.Day), req.URL.Host).Sign(now.Request.subject(req.URL.Host))
	req.Header["Authorization"] = []string{strings.Fields(header)[0] + strings.TrimPrefix(a.Header(), "BackendAI")}
	return req, nil
}

// secret gives the keypair to sign a request again with, if it is to be.
func (p *Replayer) secret(e Entry, a signing.Authorization, at time.Time) (Keypair, bool) {
	if k, made := p.made[a.AccessKey]; made {
		return k, true
	}
	for _, k := range Keys {
		if k.Access != a.AccessKey {
			continue
		}
		m, err := signing.ParseMethod(a.Method)
		if err != nil {
			return k, false
		}
		day := at.Format(signing.Day)
		return k, signing.DeriveKey(m, k.Secret, day, RecordedHost).Verify(e.Request.subject(RecordedHost), a.Signature) || at.IsZero()
	}
	return Keypair{}, false
}

func (r Request) subject(host string) signing.Subject {
	date := ""
	for _, h := range dateHeaders {
		if date == "" {
			date = r.Headers[h]
		}
	}
	contentType, there := r.Headers["Content-Type"]
	s := signing.Subject{Method: r.Method, Target: r.Path, Date: date, Host: host, ContentType: signing.MediaType(contentType, there), Version: r.Headers["X-BackendAI-Version"]}
	if s.Version == "" {
		s.Version, s.LegacyVersion = r.Headers["X-Sorna-Version"], true
	}
	return s
}

// bytes is the body as it was sent.
func (r Request) bytes() ([]byte, error) {
	if len(r.Body) == 0 || string(r.Body) == "null" {
		return nil, nil
	}
	if r.Body[0] == '"' {
		var text string
		err := json.Unmarshal(r.Body, &text)
		return []byte(text), err
	}
	return r.Body, nil
}

// bind remembers what stands for recorded values from now on.
func (p *Replayer) bind(pairs []string) {
	p.bound = append(pairs, p.bound...) // the newest wins
	p.bindings = strings.NewReplacer(p.bound...)
}

// learn takes up keypairs that an answer hands out.
func (p *Replayer) learn(want, got any) {
	w, wok := want.(map[string]any)
	g, gok := got.(map[string]any)
	if !wok || !gok {
		return
	}
	recorded, ok1 := w["access_key"].(string)
	access, ok2 := g["access_key"].(string)
	secret, ok3 := g["secret_key"].(string)
	if ok1 && ok2 && ok3 {
		p.made[backendai.AccessKey(recorded)] = Keypair{backendai.AccessKey(access), backendai.SecretKey(secret)}
	}
	for k := range w {
		p.learn(w[k], g[k])
	}
}

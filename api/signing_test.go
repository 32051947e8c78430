package api_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/api"
	"backend.ai/manager/api/signing"
	"backend.ai/manager/test/golden"
)

// Signed requests in all forms but the usual ones; the recorded answers have those.
func TestSigningVariants(t *testing.T) {
	var mu sync.Mutex
	used := map[backendai.AccessKey]int{}
	url, _, _ := open(t, api.Config{}, api.Deps{Used: func(k backendai.AccessKey, _ time.Time) { mu.Lock(); used[k]++; mu.Unlock() }})
	host := strings.TrimPrefix(url, "http://")
	k := golden.Keys["user"]
	build := func(change func(*signing.Subject, map[string]string)) string {
		s := signing.Subject{Method: "GET", Target: "/zoo/user?x=a+b%2Fc&", Date: time.Now().UTC().Format(time.RFC3339Nano), Host: host, ContentType: "application/octet-stream", Version: api.Latest}
		h := map[string]string{"Host": host, "Date": s.Date, "X-BackendAI-Version": s.Version}
		method := signing.DefaultMethod
		change(&s, h)
		if m, ok := h["method"]; ok {
			method = m
			delete(h, "method")
		}
		m, err := signing.ParseMethod(method)
		if err != nil {
			t.Fatal(err)
		}
		date, _ := signing.ParseDate(s.Date, time.Now())
		a := signing.Authorization{Method: method, AccessKey: k.Access, Signature: signing.DeriveKey(m, k.Secret, date.Format(signing.Day), s.Host).Sign(s)}
		if _, there := h["Authorization"]; !there {
			h["Authorization"] = a.Header()
		}
		out := "GET " + s.Target + " HTTP/1.1\n"
		for name, v := range h {
			out += name + ": " + v + "\n"
		}
		return out + "\n"
	}
	for name, c := range map[string]struct {
		change func(*signing.Subject, map[string]string)
		want   int
	}{
		"plain": {func(*signing.Subject, map[string]string) {}, 200},
		"other host": {func(s *signing.Subject, h map[string]string) {
			s.Host, h["Host"] = "Manager.Example.COM", "Manager.Example.COM"
		}, 200},
		"legacy version": {func(s *signing.Subject, h map[string]string) {
			s.LegacyVersion = true
			delete(h, "X-BackendAI-Version")
			h["X-Sorna-Version"] = s.Version
		}, 200},
		"legacy date": {func(s *signing.Subject, h map[string]string) { delete(h, "Date"); h["X-Sorna-Date"] = s.Date }, 200},
		"empty date":  {func(s *signing.Subject, h map[string]string) { h["Date"] = ""; h["X-BackendAI-Date"] = s.Date }, 200},
		"content type": {func(s *signing.Subject, h map[string]string) {
			h["Content-Type"] = "Multipart/Form-Data; boundary=x"
			s.ContentType = "multipart/form-data"
		}, 200},
		"bad content type": {func(s *signing.Subject, h map[string]string) {
			h["Content-Type"] = "nonsense"
			s.ContentType = "text/plain"
		}, 200},
		"no content": {func(s *signing.Subject, h map[string]string) { h["Content-Type"] = ""; s.ContentType = "text/plain" }, 200},
		"blake2b":    {func(_ *signing.Subject, h map[string]string) { h["method"] = "hmac-blake2b" }, 200},
		"other target": {func(s *signing.Subject, h map[string]string) {
			h["Date"] = s.Date
			s.Target += "z"
			s.Version = "v5.20191215"
		}, 401},
		"no authorization": {func(_ *signing.Subject, h map[string]string) { h["Authorization"] = "" }, 401},
		"broken database": {func(_ *signing.Subject, h map[string]string) {
			h["Authorization"] = "BackendAI signMethod=HMAC-SHA256, credential=AKIABROKEN:00"
		}, 500},
		"not ASCII": {func(_ *signing.Subject, h map[string]string) {
			h["Authorization"] = "BackendAI signMethod=HMAC-SHA256, credential=" + string(k.Access) + ":é"
		}, 401},
		"overflowing date": {func(_ *signing.Subject, h map[string]string) { h["Date"] = "99999999999999999999999999" }, 400},
		"unsupported version": {func(s *signing.Subject, h map[string]string) {
			s.Version = "v7.20990101"
			h["X-BackendAI-Version"] = s.Version
		}, 400},
	} {
		res := raw(t, url, build(c.change), build(c.change)) // the second time with the kept key
		for i, r := range res {
			if r.StatusCode != c.want {
				t.Errorf("%s (%d): %s %s", name, i, r.Status, text(t, r))
			}
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if used[k.Access] != 18 || len(used) != 1 {
		t.Errorf("uses: %v", used)
	}
}

// doorman knows people by a cookie, and dislikes one of them.
type doorman struct{}

func (doorman) Name() string { return "doorman" }

func (doorman) PreAuth(_ context.Context, r *api.Request) (backendai.AccessKey, error) {
	switch r.Header("Cookie") {
	case "known":
		return golden.Keys["user"].Access, nil
	case "disliked":
		return "", errors.New("not you")
	case "ghost":
		return "AKIAGHOST", nil
	}
	return "", nil
}

func TestHooks(t *testing.T) {
	url, _, _ := open(t, api.Config{}, api.Deps{Hooks: api.NewHooks(doorman{})})
	for cookie, want := range map[string]string{
		"known":    `200 "AKIANABBDUSEREXAMPLE"`,
		"disliked": `400 {"type": "https://api.backend.ai/probs/rejected-by-hook", "title": "Operation rejected by a hook plugin.", "msg": "not you", "data": {"plugins": "doorman"}}`,
		"ghost":    `401 {"type": "https://api.backend.ai/probs/auth-failed", "title": "Credential/signature mismatch.", "msg": "Access key not found"}`,
		"":         `401 {"type": "https://api.backend.ai/probs/auth-failed", "title": "Credential/signature mismatch.", "msg": "Unauthorized access"}`,
	} {
		req, _ := http.NewRequest("GET", url+"/zoo/user", nil)
		req.Header.Set("Date", time.Now().UTC().Format(time.RFC3339))
		req.Header.Set("Cookie", cookie)
		status, body, _ := send(t, req)
		if got := fmt.Sprint(status, " ", body); got != want {
			t.Errorf("%q: %s, want %s", cookie, got, want)
		}
	}
}

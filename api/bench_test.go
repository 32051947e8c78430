package api_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"backend.ai/manager/api"
	"backend.ai/manager/api/signing"
	"backend.ai/manager/test/golden"
)

// BenchmarkSignedGet measures kept-alive signed requests over the loopback, client included.
func BenchmarkSignedGet(b *testing.B) {
	url, _ := serve(b, api.Deps{RateLimiter: &counter{}})
	host := strings.TrimPrefix(url, "http://")
	m, _ := signing.ParseMethod(signing.DefaultMethod)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		conn, err := net.Dial("tcp", host)
		if err != nil {
			b.Error(err)
			return
		}
		defer conn.Close()
		in := bufio.NewReader(conn)
		key := signing.DeriveKey(m, golden.Keys["load"].Secret, time.Now().UTC().Format(signing.Day), host)
		for pb.Next() {
			date := time.Now().UTC().Format("2006-01-02T15:04:05.000000+00:00")
			signature := key.Sign(signing.Subject{Method: "GET", Target: "/auth?echo=hello", Date: date, Host: host, ContentType: "text/plain", Version: api.Latest})
			fmt.Fprintf(conn, "GET /auth?echo=hello HTTP/1.1\r\nHost: %s\r\nDate: %s\r\nContent-Type: text/plain\r\nX-BackendAI-Version: %s\r\nAuthorization: %s\r\n\r\n", host, date, api.Latest,
				signing.Authorization{Method: signing.DefaultMethod, AccessKey: golden.Keys["load"].Access, Signature: signature}.Header())
			res, err := http.ReadResponse(in, nil)
			if err != nil {
				b.Error(err)
				return
			}
			if res.StatusCode != 200 {
				b.Error(res.Status)
				return
			}
			body := make([]byte, res.ContentLength)
			_, _ = res.Body.Read(body)
			res.Body.Close()
		}
	})
}

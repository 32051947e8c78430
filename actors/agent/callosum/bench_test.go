package callosum

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// BenchmarkCalls measures small calls, many at a time, client and server in this process: calls/s is b.N by time.
func BenchmarkCalls(b *testing.B) {
	for _, peers := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprint("peers=", peers), func(b *testing.B) {
			s, _ := startServer(b, ServerConfig{}, nil)
			c := startClient(b, ClientConfig{})
			slots := make(chan struct{}, 256)
			var wg sync.WaitGroup
			b.ResetTimer()
			for i := range b.N {
				slots <- struct{}{}
				wg.Add(1)
				peer := Peer{AgentID: fmt.Sprint("i-", i%peers), Address: s.Address()}
				Invoke(c, peer, Ping{"x"}, Fence{}, time.Now().Add(time.Minute), func(_ string, err error) {
					if err != nil {
						b.Error(err)
					}
					<-slots
					wg.Done()
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
		})
	}
}

// BenchmarkEncodeCreate measures what a create_kernels request costs the caller.
func BenchmarkEncodeCreate(b *testing.B) {
	req := CreateKernels{KernelIDs: []string{"k"}, Configs: []KernelCreationConfig{{
		Environ:       map[string]string{"A": "1", "B": "2", "C": "3"},
		ResourceSlots: map[string]string{"cpu": "1", "mem": "268435456"},
	}}}
	for b.Loop() {
		if _, err := req.Call().Payload(); err != nil {
			b.Fatal(err)
		}
	}
}

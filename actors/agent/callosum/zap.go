package callosum

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"time"

	zmq "github.com/pebbe/zmq4"
)

// zapHandler admits the clients whose CURVE public key is on a list. libzmq asks it, by the protocol of ZeroMQ RFC 27,
// about every connection of the context it lives in.
type zapHandler struct {
	socket *zmq.Socket
	waker  *waker
	keys   map[string]bool // Z85
	done   chan struct{}
}

func newZAPHandler(zctx *zmq.Context, keys []string) (*zapHandler, error) {
	z := &zapHandler{keys: map[string]bool{}, done: make(chan struct{})}
	for _, k := range keys {
		z.keys[k] = true
	}
	var err error
	if z.waker, err = newWaker(zctx, "zap-waker"); err != nil {
		return nil, err
	}
	if z.socket, err = zctx.NewSocket(zmq.REP); err == nil {
		err = errors.Join(z.socket.SetLinger(0), z.socket.Bind("inproc://zeromq.zap.01"))
	}
	if err != nil {
		z.socket.Close()
		z.waker.close()
		z.waker.receive.Close()
		return nil, fmt.Errorf("callosum: ZAP handler: %w", err)
	}
	go z.run()
	return z, nil
}

func (z *zapHandler) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(z.done)
	defer z.waker.receive.Close()
	defer z.socket.Close()
	poller := zmq.NewPoller()
	poller.Add(z.socket, zmq.POLLIN)
	poller.Add(z.waker.receive, zmq.POLLIN)
	for {
		polled, err := poller.Poll(time.Minute)
		if err != nil && zmq.AsErrno(err) != zmq.Errno(syscall.EINTR) {
			return
		}
		for _, item := range polled {
			if item.Socket == z.waker.receive {
				return
			}
			frames, err := z.socket.RecvMessageBytes(zmq.DONTWAIT)
			if err != nil {
				continue
			}
			_, _ = z.socket.SendMessage(z.judge(frames))
		}
	}
}

// judge answers a ZAP request: version, request id, domain, address, identity, mechanism, credentials.
func (z *zapHandler) judge(frames [][]byte) [][]byte {
	id := []byte{}
	if len(frames) > 1 {
		id = frames[1]
	}
	status, text := "400", "key is not authorized"
	if len(frames) == 7 && string(frames[5]) == "CURVE" && len(frames[6]) == 32 && z.keys[zmq.Z85encode(string(frames[6]))] {
		status, text = "200", "OK"
	}
	return [][]byte{[]byte("1.0"), id, []byte(status), []byte(text), {}, {}}
}

func (z *zapHandler) close() {
	z.waker.wake()
	<-z.done
	z.waker.close()
}

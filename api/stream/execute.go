package stream

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/api"
)

const (
	callTimeout  = 30 * time.Second
	answerGrace  = 2 * time.Second
	writeTimeout = 30 * time.Second
	// firstFrame bounds how long a client may take to say what to run.
	firstFrame = time.Minute
)

// flushTimeout is how long the agent gathers output before it answers "continued", in seconds.
var flushTimeout = 0.2

// restarting tells a client that the server goes down in the middle of its run.
const restarting = "The API server is going to restart for maintenance. Please connect again with the same run ID."

// execute runs code and streams its output (spec/rest-session §9.3).
func (s *Resource) execute(r *api.Request) error {
	m, err := s.find(r)
	if err != nil {
		return err
	}
	version := r.Version.Major
	if version == 4 {
		version = 3
	}
	server := r.Context() // of the server: the request is over once the connection is upgraded
	upgrader := websocket.FastHTTPUpgrader{EnableCompression: true}
	err = upgrader.Upgrade(r.Fiber().Context(), func(conn *websocket.Conn) {
		defer conn.Close()
		conn.SetReadLimit(s.maxMessage)
		s.run(server, conn, m.ID, version)
	})
	if err != nil {
		return backendai.Errorf(backendai.InvalidAPIParameters, "This path speaks WebSocket only; connect with an upgrade.").WithCause(err)
	}
	return nil
}

// first is what a client sends to begin.
type first struct {
	Mode    string       `json:"mode"`
	Code    string       `json:"code"`
	Options callosum.Map `json:"options"`
}

func (s *Resource) run(server context.Context, conn *websocket.Conn, id uuid.UUID, version int) {
	ctx, left := context.WithCancel(server)
	defer left()
	texts := make(chan string, 1)
	go read(ctx, left, conn, texts)
	send := func(f frame) bool {
		_ = conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		return conn.WriteJSON(f) == nil
	}
	end := func() {
		_ = conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(time.Second))
	}
	defer end()
	var begin first
	select {
	case text := <-texts:
		if err := json.Unmarshal([]byte(text), &begin); err != nil || begin.Mode != "query" && begin.Mode != "batch" {
			send(frame{Status: "error", Msg: "Invalid API parameters: the first message must be an object with mode query or batch, code and options"})
			return
		}
	case <-time.After(firstFrame):
		send(frame{Status: "error", Msg: "Invalid API parameters: nothing was sent to run"})
		return
	case <-ctx.Done():
		return
	}
	var bytes [8]byte
	_, _ = rand.Read(bytes[:])
	run := hex.EncodeToString(bytes[:])
	mode, code, options := begin.Mode, begin.Code, begin.Options
	for {
		result, err := s.poll(ctx, id, callosum.Execute{KernelID: id.String(), APIVersion: version, RunID: &run, Mode: mode, Code: code, Opts: options, FlushTimeout: &flushTimeout})
		switch {
		case server.Err() != nil:
			send(frame{Status: "server-restarting", Msg: restarting})
			return
		case ctx.Err() != nil: // the client has left: what it had started must not go on
			s.interrupt(server, id)
			return
		case err != nil:
			send(frame{Status: "error", Msg: "BackendError: " + explain(err)})
			return
		}
		if !send(frameOf(result)) {
			s.interrupt(server, id)
			return
		}
		mode, code, options = "continue", "", nil
		switch result.Status {
		case "finished", "exec-timeout":
			return
		case "waiting-input":
			select {
			case text := <-texts:
				mode, code = "input", text
			case <-ctx.Done():
				if server.Err() == nil {
					s.interrupt(server, id)
				}
				return
			}
		}
	}
}

// read hands the client's texts over and notices when it leaves. Pings are answered by the library as they are read.
func read(ctx context.Context, left func(), conn *websocket.Conn, texts chan<- string) {
	defer left()
	for {
		kind, data, err := conn.ReadMessage()
		if err != nil {
			return
		}
		if kind != websocket.TextMessage {
			continue
		}
		select {
		case texts <- string(data):
		case <-ctx.Done():
			return
		}
	}
}

func (s *Resource) poll(ctx context.Context, id uuid.UUID, req callosum.Execute) (callosum.ExecuteResult, error) {
	deadline := time.Now().Add(callTimeout)
	payload, err := s.ask(ctx, id, callTimeout+answerGrace, func(to protocol.ReplyTo) any {
		return &protocol.Invoke{Call: req.Call(), Deadline: deadline, Query: req.Mode != "continue", Reply: to}
	})
	if err != nil {
		return callosum.ExecuteResult{}, err
	}
	return req.Result(payload)
}

func (s *Resource) interrupt(ctx context.Context, id uuid.UUID) {
	req := callosum.InterruptKernel{KernelID: id.String()}
	deadline := time.Now().Add(callTimeout)
	_, _ = s.ask(ctx, id, callTimeout, func(to protocol.ReplyTo) any {
		return &protocol.Invoke{Call: req.Call(), Deadline: deadline, Reply: to}
	})
}

// explain is what a client may read of an error.
func explain(err error) string {
	var remote *callosum.RemoteError
	if errors.As(err, &remote) {
		return "Agent-side exception occurred. (" + remote.Repr + ")"
	}
	var known *backendai.Error
	if errors.As(err, &known) && known.HTTPStatus() < 500 {
		return known.Text()
	}
	return "the agent did not answer in time"
}

func frameOf(e callosum.ExecuteResult) frame {
	console, files := e.Console, []any{}
	if console == nil {
		console = [][]any{}
	}
	f := frame{Status: e.Status, Console: &console, Files: &files, ExitCode: json.RawMessage("null"), Options: json.RawMessage("null")}
	if e.ExitCode != nil {
		f.ExitCode, _ = json.Marshal(*e.ExitCode)
	}
	switch {
	case e.Options != nil:
		f.Options, _ = e.Options.MarshalJSON()
	case e.Status == "waiting-input":
		f.Options = json.RawMessage("{}")
	}
	return f
}

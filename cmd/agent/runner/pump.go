package runner

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Event is one line from an interpreter.
type Event struct {
	Type        string          `json:"type"` // ready, finished, waiting-input, completion, html, media, flush
	ExitCode    int             `json:"exitCode"`
	IsPassword  bool            `json:"is_password"`
	Completions []string        `json:"completions"`
	Data        json.RawMessage `json:"data"`
}

// Sink takes what a process says, in order, from one goroutine.
type Sink interface {
	// Output takes text of "stdout" or "stderr".
	Output(stream, text string)
	// Event takes an event.
	Event(e Event)
	// Exited says that the process has ended; children it left behind may still print.
	Exited(exit int)
}

// pump carries the output and events of one process to a sink.
type pump struct {
	events, acknowledge int // -1: a process without events
	wake, woken         int // the reading and the writing end: the process has ended
	streams             [2]stream
	sink                Sink
	exit                chan int
	partial             []byte
}

type stream struct {
	fd   int
	name string
	rest []byte // an unfinished character
}

// pipe makes a pipe whose reading end does not block.
func pipe() (read int, write *os.File, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return -1, nil, err
	}
	unix.SetNonblock(p[0], true)
	return p[0], os.NewFile(uintptr(p[1]), "pipe"), nil
}

// Run starts cmd with its output going to sink.
func Run(r *Reaper, cmd *exec.Cmd, sink Sink) error {
	p := &pump{events: -1, acknowledge: -1, sink: sink, exit: make(chan int, 1)}
	return p.start(r, cmd)
}

func (p *pump) start(r *Reaper, cmd *exec.Cmd) (err error) {
	var childs []*os.File
	defer func() {
		for _, f := range childs {
			f.Close()
		}
		if err != nil {
			p.close()
		}
	}()
	for i, name := range []string{"stdout", "stderr"} {
		fd, w, err := pipe()
		if err != nil {
			return err
		}
		childs = append(childs, w)
		p.streams[i] = stream{fd: fd, name: name}
	}
	cmd.Stdout, cmd.Stderr = childs[0], childs[1]
	var wake [2]int
	if err := unix.Pipe2(wake[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return err
	}
	p.wake, p.woken = wake[0], wake[1]
	if err := r.Start(cmd, p.ended); err != nil {
		unix.Close(p.woken)
		return err
	}
	go p.run()
	return nil
}

func (p *pump) ended(exit int) {
	p.exit <- exit
	unix.Write(p.woken, []byte{0})
	unix.Close(p.woken)
}

func (p *pump) close() {
	for _, fd := range []int{p.events, p.acknowledge, p.wake, p.streams[0].fd, p.streams[1].fd} {
		if fd > 0 {
			unix.Close(fd)
		}
	}
}

const mostPerTurn = 1 << 20

func (p *pump) run() {
	defer p.close()
	buf := make([]byte, 64<<10)
	exited := false
	for {
		fds := []unix.PollFd{{Fd: int32(p.wake), Events: unix.POLLIN}, {Fd: int32(p.events), Events: unix.POLLIN},
			{Fd: int32(p.streams[0].fd), Events: unix.POLLIN}, {Fd: int32(p.streams[1].fd), Events: unix.POLLIN}}
		if exited {
			fds[0].Fd = -1
		}
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		ended := fds[0].Revents != 0 && !exited
		if p.events >= 0 { // first what there is of the events, …
			n, open := read(p.events, buf)
			p.partial = append(p.partial, buf[:n]...)
			if !open {
				unix.Close(p.events)
				p.events = -1
			}
		}
		for i := range p.streams { // … then all the output, …
			p.drain(&p.streams[i], buf)
		}
		p.handle() // … and only then the events
		if ended {
			exited = true
			p.sink.Exited(<-p.exit)
		}
		if exited && p.streams[0].fd < 0 && p.streams[1].fd < 0 {
			return
		}
	}
}

// read reads once; not open means the end of the stream.
func read(fd int, buf []byte) (n int, open bool) {
	n, err := unix.Read(fd, buf)
	if n > 0 {
		return n, true
	}
	return 0, errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR)
}

func (p *pump) drain(s *stream, buf []byte) {
	for total := 0; s.fd >= 0 && total < mostPerTurn; {
		n, open := read(s.fd, buf)
		if !open {
			unix.Close(s.fd)
			s.fd = -1
			if len(s.rest) > 0 {
				p.sink.Output(s.name, "\uFFFD")
				s.rest = nil
			}
		}
		if n == 0 {
			return
		}
		total += n
		if text := s.decode(buf[:n]); text != "" {
			p.sink.Output(s.name, text)
		}
	}
}

// decode makes text of bytes, with what is no text replaced, and keeps an unfinished character for later.
func (s *stream) decode(raw []byte) string {
	data := append(s.rest, raw...)
	cut := len(data)
	for i := 1; i <= min(3, len(data)); i++ {
		if b := data[len(data)-i]; utf8.RuneStart(b) {
			if !utf8.FullRune(data[len(data)-i:]) {
				cut = len(data) - i
			}
			break
		}
	}
	s.rest = append([]byte(nil), data[cut:]...)
	return strings.ToValidUTF8(string(data[:cut]), "\uFFFD")
}

func (p *pump) handle() {
	for {
		i := bytes.IndexByte(p.partial, '\n')
		if i < 0 {
			return
		}
		var e Event
		err := json.Unmarshal(p.partial[:i], &e)
		p.partial = p.partial[i+1:]
		switch {
		case err != nil: // user code got hold of the descriptor
		case e.Type == "flush":
			unix.Write(p.acknowledge, []byte{0})
		default:
			p.sink.Event(e)
		}
	}
}

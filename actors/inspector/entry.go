package inspector

import (
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

// Kind says what an actor is.
type Kind string

// The kinds of actors of this manager.
const (
	KindShard     Kind = "shard"
	KindAgent     Kind = "agent"
	KindScheduler Kind = "scheduler"
	KindSession   Kind = "session"
	KindKernel    Kind = "kernel"
	KindNode      Kind = "node" // one of the few per process: replies, events, housekeeping
)

// recentMessages is how many finished messages an entry remembers.
const recentMessages = 5

// Identity names an actor: its kind, what it stands for and the shard that owns it (-1: none).
type Identity struct {
	Kind  Kind
	ID    string
	Shard int32
	Epoch int64
}

// Stateful is an actor with a state machine. State is a word of it; it is called on the actor's own goroutine after every message, so
// it costs next to nothing.
type Stateful interface {
	State() string
}

// Factual is an actor that tells facts of itself: a few plain values, rendered as JSON. Facts is called on the actor's own goroutine when
// someone looks; the result must not be changed afterwards.
type Factual interface {
	Facts() map[string]any
}

// look asks an actor for its facts. It is answered by the middleware; the actor does not see it.
type look struct{ answer chan<- told }

type told struct {
	entry *Entry
	facts map[string]any
}

// Message is one handled message.
type Message struct {
	Type    string        `json:"type"`
	Took    time.Duration `json:"took_ns"`
	Started time.Time     `json:"started"`
}

// Entry is the live record of one actor.
type Entry struct {
	identity Identity
	node     string
	started  time.Time

	mu         sync.Mutex
	pid        *actor.PID
	parent     *actor.PID
	waiting    []time.Time // when each message in the mailbox was posted, oldest first
	handled    int64
	current    string
	since      time.Time
	recent     [recentMessages]Message
	recentNext int
	state      string
	stateSince time.Time
	facts      map[string]any // that it told last
	restarts   int
	lastError  string
}

// Snapshot is a copy of an entry at one moment, as the endpoint renders it.
type Snapshot struct {
	Kind        Kind           `json:"kind"`
	ID          string         `json:"id"`
	Node        string         `json:"node"`
	Shard       *int32         `json:"shard"`
	Epoch       int64          `json:"epoch,omitempty"`
	PID         string         `json:"pid"`
	Parent      string         `json:"parent,omitempty"`
	State       string         `json:"state,omitempty"`
	StateSince  *time.Time     `json:"state_since,omitempty"`
	Started     time.Time      `json:"started"`
	Mailbox     int            `json:"mailbox"`
	OldestAgeMs float64        `json:"oldest_message_age_ms"`
	MessagesIn  int64          `json:"messages_in"`
	Current     string         `json:"current_message,omitempty"`
	CurrentMs   float64        `json:"current_running_ms,omitempty"`
	Recent      []Message      `json:"recent_messages"`
	Restarts    int            `json:"restarts"`
	LastError   string         `json:"last_error,omitempty"`
	Facts       map[string]any `json:"facts,omitempty"`
}

// MailboxStarted is part of actor.MailboxMiddleware.
func (e *Entry) MailboxStarted() {}

// MailboxEmpty is part of actor.MailboxMiddleware.
func (e *Entry) MailboxEmpty() {}

// MessagePosted is part of actor.MailboxMiddleware.
func (e *Entry) MessagePosted(msg any) {
	if _, ok := msg.(*look); ok {
		return
	}
	e.mu.Lock()
	e.waiting = append(e.waiting, time.Now())
	e.mu.Unlock()
}

// MessageReceived is part of actor.MailboxMiddleware: it comes after the message was handled.
func (e *Entry) MessageReceived(msg any) {
	if _, ok := msg.(*look); ok {
		return
	}
	e.mu.Lock()
	if len(e.waiting) > 0 {
		e.waiting = e.waiting[1:]
	}
	if len(e.waiting) == 0 {
		e.waiting = nil
	}
	e.mu.Unlock()
}

func (e *Entry) begin(msg any) {
	e.mu.Lock()
	e.current, e.since = TypeName(msg), time.Now()
	e.mu.Unlock()
}

func (e *Entry) end(a actor.Actor) {
	state := ""
	if s, ok := a.(Stateful); ok {
		state = s.State()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	e.recent[e.recentNext%recentMessages] = Message{Type: e.current, Took: now.Sub(e.since), Started: e.since}
	e.recentNext++
	e.handled++
	e.current = ""
	if state != e.state {
		e.state, e.stateSince = state, now
	}
}

func (e *Entry) failed(reason any) {
	e.mu.Lock()
	e.restarts++
	e.lastError = fmt.Sprint(reason)
	e.current = ""
	if len(e.waiting) > 0 { // the mailbox does not tell of the message that was never finished
		e.waiting = e.waiting[1:]
	}
	e.mu.Unlock()
}

// Snapshot copies the entry, with the facts that the actor told when it was last looked at.
func (e *Entry) Snapshot() Snapshot {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	s := Snapshot{
		Kind: e.identity.Kind, ID: e.identity.ID, Node: e.node, Epoch: e.identity.Epoch,
		State: e.state, Facts: e.facts, Started: e.started,
		Mailbox: len(e.waiting), MessagesIn: e.handled,
		Restarts: e.restarts, LastError: e.lastError, Recent: []Message{},
	}
	if e.identity.Shard >= 0 {
		shard := e.identity.Shard
		s.Shard = &shard
	}
	if e.pid != nil {
		s.PID = e.pid.Id
	}
	if e.parent != nil {
		s.Parent = e.parent.Id
	}
	if e.state != "" {
		since := e.stateSince
		s.StateSince = &since
	}
	if len(e.waiting) > 0 {
		s.OldestAgeMs = milliseconds(now.Sub(e.waiting[0]))
	}
	if e.current != "" {
		s.Current, s.CurrentMs = e.current, milliseconds(now.Sub(e.since))
		s.Mailbox = max(0, s.Mailbox-1) // the one in hand has left the mailbox
	}
	for i := range min(e.recentNext, recentMessages) {
		s.Recent = append(s.Recent, e.recent[(e.recentNext-1-i)%recentMessages])
	}
	return s
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// TypeName names a message's type without its package's path: "session.Destroy".
func TypeName(msg any) string {
	t := reflect.TypeOf(msg)
	if t == nil {
		return "nil"
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.String()
}

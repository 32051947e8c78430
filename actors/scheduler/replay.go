package scheduler

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
)

// A recording is JSON lines: first the state from which the steps start, then a line for each step:
//
//	{"recording":1,"scaling_group":"default","from_step":120,"steps":300,"state":{…}}
//	{"step":120,"at":"2022-03-01T12:00:00Z","event":"Enqueue","data":{…},"effects":"a3f0…"}
//	{"step":121,"at":"2022-03-01T12:00:00Z","event":"pass","effects":"77b1…"}
//
// effects is a sum over what the live scheduler's step has led to.
type (
	headLine struct {
		Recording int       `json:"recording"`
		Group     string    `json:"scaling_group"`
		From      uint64    `json:"from_step"`
		Steps     int       `json:"steps"`
		Broken    bool      `json:"broken,omitempty"` // the state was made by steps that did not lead to the same effects again
		State     *snapshot `json:"state"`
	}
	stepLine struct {
		Step    uint64          `json:"step"`
		At      time.Time       `json:"at,omitzero"`
		Event   string          `json:"event"`
		Data    json.RawMessage `json:"data,omitempty"`
		Effects string          `json:"effects"`
	}
)

// recordingVersion is that of the lines' form.
const recordingVersion = 2

// Names of the steps that are no events.
const (
	stepPass  = "pass"
	stepBooks = "books"
	stepUses  = "uses"
)

// events are those that Apply knows, by the names of their types.
var events = func() map[string]reflect.Type {
	m := make(map[string]reflect.Type)
	for _, e := range []any{protocol.SchedulerLoaded{}, protocol.Enqueue{}, protocol.Withdraw{}, protocol.Placed{}, protocol.Settle{}, protocol.Ending{},
		protocol.Release{}, protocol.AgentState{}, protocol.LimitsChanged{}, protocol.WishesChanged{}, protocol.DependencyDone{}, protocol.PolicyChanged{}, protocol.KnownSlotsChanged{},
		protocol.Moved{}, protocol.Reread{}, protocol.Tick{}, protocol.Recount{}, quotaFreed{}, charged{}} {
		m[reflect.TypeOf(e).Name()] = reflect.TypeOf(e)
	}
	return m
}()

// unknownEvent stands for an event that Apply does nothing about.
type unknownEvent struct{}

func (s step) name() string {
	switch s.event.(type) {
	case passed:
		return stepPass
	case booked:
		return stepBooks
	case wroteUses:
		return stepUses
	}
	if t := reflect.TypeOf(s.event); t != nil && t.Kind() == reflect.Pointer {
		return t.Elem().Name()
	}
	return "unknown"
}

// Write writes the recording as JSON lines.
func (r Recording) Write(to io.Writer) error {
	out := bufio.NewWriter(to)
	enc := json.NewEncoder(out)
	state := r.base.snapshot()
	head := headLine{Recording: recordingVersion, Group: r.base.Group, Steps: len(r.steps), Broken: r.broken, State: &state}
	if len(r.steps) > 0 {
		head.From = r.steps[0].n
	}
	if err := enc.Encode(head); err != nil {
		return err
	}
	for _, s := range r.steps {
		line := stepLine{Step: s.n, At: s.now, Event: s.name(), Effects: s.sum}
		if _, ok := events[line.Event]; ok {
			data, err := json.Marshal(s.event)
			if err != nil {
				return err
			}
			line.Data = data
		}
		if err := enc.Encode(line); err != nil {
			return err
		}
	}
	return out.Flush()
}

// Replay makes the decisions of a recording again, one by one, on a core of its own. Nothing outside of it is touched.
type Replay struct {
	// Group is the scaling group; From the number of the first step; Steps how many there are.
	Group string
	From  uint64
	Steps int
	in    *bufio.Reader
	core  *Core
}

// Replayed is a step that was made again.
type Replayed struct {
	Step    uint64          `json:"step"`
	At      time.Time       `json:"at,omitzero"`
	Event   string          `json:"event"`
	Data    json.RawMessage `json:"data,omitempty"`
	Effects json.RawMessage `json:"effects"` // a list of objects with the effect's name as their only key
	// Same: the live scheduler's effects were these.
	Same bool `json:"same"`

	list []Effect
}

// NewReplay reads the head of a recording. Errors: InvalidArgument for what is none.
func NewReplay(from io.Reader) (*Replay, error) {
	r := &Replay{in: bufio.NewReaderSize(from, 1<<20)}
	var head headLine
	if err := r.line(&head); err != nil {
		return nil, notARecording(err)
	}
	if head.Recording != recordingVersion || head.State == nil {
		return nil, backendai.Errorf(backendai.InvalidArgument, "This is no recording of a scheduler, or one of another version (%d instead of %d).", head.Recording, recordingVersion)
	}
	if head.Broken {
		return nil, backendai.Errorf(backendai.InvalidArgument, "The recording's state is not that of the live scheduler: steps before it have led to other effects when they were made again.")
	}
	core, err := head.State.core()
	if err != nil {
		return nil, err
	}
	r.Group, r.From, r.Steps, r.core = head.Group, head.From, head.Steps, core
	return r, nil
}

func notARecording(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return backendai.Errorf(backendai.InvalidArgument, "The recording can't be read: %v.", err)
}

func (r *Replay) line(into any) error {
	text, err := r.in.ReadBytes('\n')
	if len(bytes.TrimSpace(text)) == 0 {
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	return json.Unmarshal(text, into)
}

// Next makes the next step. Error: io.EOF at the end; InvalidArgument for what is no step.
func (r *Replay) Next() (Replayed, error) {
	var l stepLine
	if err := r.line(&l); err != nil {
		if errors.Is(err, io.EOF) {
			return Replayed{}, io.EOF
		}
		return Replayed{}, notARecording(err)
	}
	s := step{n: l.Step, now: l.At, sum: l.Effects}
	switch t := events[l.Event]; {
	case l.Event == stepPass:
		s.event = passed{}
	case l.Event == stepBooks:
		s.event = booked{}
	case l.Event == stepUses:
		s.event = wroteUses{}
	case t == nil:
		s.event = &unknownEvent{}
	default:
		e := reflect.New(t)
		if err := json.Unmarshal(l.Data, e.Interface()); err != nil {
			return Replayed{}, notARecording(err)
		}
		s.event = e.Interface()
	}
	effects, err := r.core.redo(s)
	return Replayed{Step: l.Step, At: l.At, Event: l.Event, Data: l.Data, Effects: effectsText(effects, err), Same: sumOf(effects, err) == l.Effects, list: effects}, nil
}

// Lines says the effects to people, one a line.
func (p Replayed) Lines() (list []string) {
	for _, e := range p.list {
		list = append(list, lineOf(e))
	}
	return list
}

func lineOf(e Effect) string {
	switch e := e.(type) {
	case Place:
		on := make([]string, len(e.Placement.Kernels))
		for i, k := range e.Placement.Kernels {
			on[i] = k.Agent
		}
		return "place " + e.SessionID.String() + " on " + strings.Join(on, ", ")
	case Report:
		text := "report to " + e.SessionID.String() + ":"
		for _, f := range e.Attempt.Scheduler.Failed {
			text += " " + f.Name + ": " + f.Msg + ";"
		}
		if e.Attempt.Scheduler.Msg != "" {
			text += " " + e.Attempt.Scheduler.Msg
		}
		return strings.TrimSuffix(text, ";")
	case Preempt:
		return "have " + e.SessionID.String() + " go for " + e.For.String()
	case TimeOut:
		return "time out " + e.SessionID.String()
	case Occupied:
		return "agent " + e.Agent + " has given " + e.Slots.String()
	case Used:
		text, _ := json.Marshal(e.Past.SlotSeconds)
		return "keypair " + e.Past.AccessKey + " has used " + string(text)
	case Concurrency:
		text, _ := json.Marshal(e.Sessions)
		return "keypair " + e.AccessKey + " has " + string(text) + " sessions"
	}
	text, _ := json.Marshal(e)
	return reflect.TypeOf(e).Name() + " " + string(text)
}

// Length is how many wait now, and how many of them are parked.
func (r *Replay) Length() (waiting, parked int) { return r.core.QueueLength() }

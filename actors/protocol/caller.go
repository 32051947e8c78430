package protocol

// Caller is where the answer to a message goes; the zero value if nobody waits for one.
func Caller(msg any) ReplyTo {
	switch m := msg.(type) {
	case *Create:
		return m.Reply
	case *AwaitStart:
		return m.Reply
	case *Destroy:
		return m.Reply
	case *Restart:
		return m.Reply
	case *Rename:
		return m.Reply
	case *Reprioritize:
		return m.Reply
	case *Invoke:
		return m.Reply
	case *KernelLog:
		return m.Reply
	case *Call:
		return m.Reply
	case *SetSchedulable:
		return m.Reply
	case *Why:
		return m.Reply
	case *Reach:
		return m.Reply
	case *WhyAfter:
		return m.Reply
	case *PlanSession:
		return m.Reply
	case *WhatIf:
		return m.Reply
	case *SchedulerRecord:
		return m.Reply
	}
	return ReplyTo{}
}

// Bounced brings a message back to the supervisor of an actor that has crashed and handles nothing any more.
type Bounced struct {
	From    Ref
	Message any
}

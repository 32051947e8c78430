// Package runner keeps an interpreter running and speaks with it.
//
//	         3  commands ──▶ ┌──────────────┐
//	Interpreter              │ python.py or │   user code runs inside, its state outlives each run
//	         4 ◀── events    │ shell.sh     │
//	         5  one byte ──▶ └──────────────┘
//	       1, 2 ◀── what user code and its children print
//
// Events are lines of JSON: ready, finished, waiting-input, completion, html, media and flush. Output takes the plain way,
// through descriptors 1 and 2, so that output of child processes and of C libraries is in order with Python's own. What
// orders it with events, and the two streams with each other, is [pump]: it reads what is there of the events, then all
// there is of the output, and only then looks at the events. So nothing printed before "finished" can come after it. When
// a program changes from one stream to the other, python.py asks with "flush" and waits for the byte.
//
// An interpreter may die of its code. That ends the run, not the kernel: the next run starts a new one, and says so.
//
// The shell is a bash that keeps its variables and folder from run to run.
package runner

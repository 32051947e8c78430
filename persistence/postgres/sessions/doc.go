// Package sessions reads sessions for people: it finds them by what users type, and
// reads what the API shows of one.
//
//	"mysess", "b6a4…", a prefix of either ─▶ Find ─▶ Match{id, name, status}
//	id ─▶ Read ─▶ Info, the main kernel's row
//
// A session is its main kernel's row (spec/database §8.1). What lives is also an
// actor, but these rows say the same: nobody is told of a state that is not written.
package sessions

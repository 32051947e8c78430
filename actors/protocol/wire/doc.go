// Package wire turns messages between actors into bytes and back, for those that go to another node.
//
// # Words
//
//   - frame: one message as bytes; what the transport between nodes carries
//   - message: a pointer to one of the registered structs; nothing else becomes a frame
//   - failure: an error as it travels; what actors and clients tell errors apart by arrives, the rest as text
//
// # Frame
//
//	┌─────────┬──────────────────────────────────────────────────────────────────┐
//	│ version │ [ "Answer", { "N": 7, "Value": [ "Enqueued", { "SessionID": … } ] } ]    MessagePack
//	└─────────┴──────────────────────────────────────────────────────────────────┘
//
// Whom a message is for is not part of it; the node puts that in front.
//
// A struct is a map from the names of its fields, without those that have their zero value. A node of a later version of the same
// generation may send a field that this one doesn't know (it is skipped) or leave one out (it is zero); a message that this one doesn't
// know is an error. So a field may be added to a message, and one that has been sent once must not change its meaning or type.
//
// # Why not simply a library's struct encoding
//
// The bytes are a library's (MessagePack), the walk over the structs is ours, because what leaves an actor must arrive as it was: a nil
// list is not an empty one, raw JSON keeps its blanks, an amount keeps its trailing zeros, a time keeps its zone, a call keeps the types of
// its arguments, an error keeps its code and what clients see of it. The structs of agents' protocol, which callosum writes with defaults
// filled in, travel as the bytes that the agent will get.
//
// # Hostile input
//
// Frames are bounded (MaxFrame). Structure, lengths and nesting are checked before anything is decoded, and what is decoded may take
// memory in proportion to the frame only. Whatever is wrong with a frame is an error, never a panic.
package wire

// Package engine executes GraphQL queries over plain structs. Parsing and most of validation are gqlparser's; what is here is fast because
// everything that depends only on types or on a query's text is worked out once.
//
//	schema text, root object ──New──▶ Schema: a binding of each object type to a Go struct
//	                                     │
//	query's text ──Document──▶ cache ──▶ parse ▶ limits ▶ validate ──▶ Document
//	                                     │
//	operation, variables ──Execute──▶ plan: fields merged by key, each with its binding
//	                                     │    (kept with the document unless @skip or @include decide)
//	                                     ▼
//	                                  walk: methods are called, struct fields are appended as JSON
//
// # Words
//
//   - binding: which struct field or method of a Go type gives a field of the schema, and how its value is written
//   - plan: what an operation selects, as a tree of nodes: fragments are dissolved, the same key twice is one node
//   - method: a Go method with any of a context, a struct of arguments, and an error as second result: what takes time
//   - problem: an error as clients see it, with places in the text and a path in the answer
//
// # How values are bound
//
// Fields and methods are found by name without regard to case and underscores; a method goes before a struct field. Pointers are what
// may be null. Go's string kinds, bool, int32 are written as they are; other scalars implement Output. Arguments are a struct; those that
// are no string, bool or int32 implement Input. A schema and Go types that do not fit make New panic: that is a mistake of the program.
//
// # What runs at a time
//
// Methods that take a context or give an error may wait for others: when several are selected side by side, or in the items of a list,
// they run beside each other, at most ten at a time in one answer. Struct fields never cost a goroutine. Problems come in the order of the
// query, whichever ended first.
//
// # Why the answer is written directly
//
// A list of a hundred sessions has two thousand values. Boxing each of them, or building a tree that an encoder walks again, costs more
// than reading the rows. The bytes are those that the original sends: a blank after commas and colons, ASCII only.
package engine

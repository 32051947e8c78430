// Package hello answers GET /: which API and which manager this is. Clients ask it first, unsigned, to agree on a version
// (spec/rest-core §1.5).
//
//	client ─ GET / ─▶ {"version": "v6.20220615", "manager": "22.03.14"} ─▶ the client signs for that version
package hello

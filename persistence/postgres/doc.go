// Package postgres connects to PostgreSQL and runs transactions.
//
// # Words
//
//   - pool: the connections of one process; made by Connect, closed by its owner
//   - unit of work: a function that runs inside one transaction and may run again
//   - unavailable: the server can't be reached, is starting, stopping or full;
//     nothing is wrong with the request, so clients get 503 and come again
//
// # Who lives below
//
//	postgres            this package: pool, transactions, what an error means
//	├── schema          the 22.03 tables, our own beside them, adoption in place
//	├── fixture         rows from JSON files; the first admin of an empty database
//	├── credential      password hashes and SSH keys
//	├── journal         rows of actors, many at a time, under their shard's epoch
//	├── embedded        a private server under a data directory, for "backend.ai up"
//	└── dbtest          a fresh database per test
//
// # Two shapes
//
// A database may have been created by 22.03 or have grown through migrations
// (package schema tells more). The two differ in names of enum types, in json
// versus jsonb and in defaults. So: name the columns, never cast to an enum type
// by its name, read JSON as text where it may be varchar, and never rely on a
// column's default. Connections register the enum types they find, under
// whichever names, so that label arrays work as parameters in both shapes.
package postgres

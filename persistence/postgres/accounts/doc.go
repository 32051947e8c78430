// Package accounts reads and writes who people are: users, their keypairs and what binds them, their domain and groups.
//
//	             ┌────────────── Credential ──────────────┐
//	access key ─▶ keypair ──▶ user ──▶ domain    keypair resource policy
//	                           └────▶ groups (membership)
//
// # Words
//
//   - credential: an active keypair with its user and policy; what a signed request is checked against and what its handler knows
//   - owner: whose keypair it is, when somebody acts on behalf of another
//   - usage: how often and when last a keypair signed a request; gathered here, written in batches
//
// # Reading
//
// Accounts answers from caches of at most a second that are dropped when their tables change (package changes): a deactivated key stops
// working at once, on every node. Values are shared: nobody may change them. What decides about passwords is always read from the rows.
//
// # Writing
//
// Each operation is one transaction. Concurrent changes of one account never overwrite each other unseen.
package accounts

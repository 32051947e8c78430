// Package session serves /session: sessions are created, looked up, used and ended
// here (spec/rest-session §3–§8).
//
//	POST   /session                create ─▶ enqueue.Plan ─▶ session actor: Create, AwaitStart
//	GET    /session/_/match        what a reference leads to
//	GET    /session/{s}            info from the row
//	PATCH, DELETE /session/{s}     restart, destroy ─▶ session actor
//	POST   /session/{s}            execute ─▶ session actor ─▶ agent twin ─▶ agent
//	GET    /session/{s}/why        why it waits ─▶ scheduler; …/why/stream: whenever that changes
//	POST   /session/_/plan         what would come of a request ─▶ enqueue.Plan ─▶ scheduler, on a copied state
//	POST   /session/_/what-if      what some changes would do to a queue ─▶ scheduler, on a copied state
//	…/{s}/{complete,interrupt,rename,upload,download,download_single,files,logs}
//
// A reference in a path is an id, a name or a prefix; it is looked up among the
// sessions of the requester, or of the owner named by owner_access_key.
package session

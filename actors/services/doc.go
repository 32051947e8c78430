// Package services is what the shells of actors may use of the world outside
// them. None of it blocks: what takes time is handed over and comes back to the
// actor as a message.
//
//	shell ─┬─ Journal.Submit ─▶ rows          (Done ─▶ message)
//	       ├─ Router.Send     ─▶ another actor
//	       ├─ Agents.Call     ─▶ an agent     (callback ─▶ message)
//	       ├─ Bus.Publish     ─▶ the event stream
//	       └─ Work.Go         ─▶ Store, keys, networks: anything that waits (result ─▶ message)
package services

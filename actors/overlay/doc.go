// Package overlay makes the networks that connect the containers of a session
// across agents: attachable overlay networks of the Docker swarm whose manager runs
// on this machine, as the original makes them (spec/scheduling-lifecycle §11.2).
//
//	session of several nodes starts ─▶ CreateOverlay ─▶ Docker's socket
//	session has ended               ─▶ RemoveOverlay ─▶ Docker's socket (after 2 s: agents leave first)
//
// Where there is no Docker, agents' kernels are processes that share the machine's
// network, and there is nothing to make.
package overlay

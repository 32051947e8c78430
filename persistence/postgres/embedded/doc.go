// Package embedded runs a private PostgreSQL from the machine's own binaries.
//
// # Words
//
//   - home: the directory that a server owns: its data, socket, log and password
//   - installation: a directory with initdb and postgres of one version
//   - orphan: a server whose parent was killed and that still runs in its home
//
// # The home
//
//	<home>/
//	├── lock          held (flock) by the process that owns the server
//	├── password      of the superuser, for TCP; generated, mode 0600
//	├── data/         the cluster; appears whole or not at all
//	├── run/          the Unix socket, unless the path would be too long for one
//	└── server.log    what the server says; the last run's is server.log.1
//
// # States
//
//	New ── Start ──▶ running ── Stop ──▶ stopped
//	                    └─ (server dies) ──▶ stopped: Done is closed, Err says why
//
// # Why it is safe to kill anything
//
// The first start runs initdb into a directory of another name and renames it,
// so a half-made cluster is never used. The server gets SIGINT (a fast, clean
// shutdown) from the kernel when the process that started it dies, however it
// dies. Should an orphan still run at the next start, it is stopped cleanly
// first: two servers on one cluster would be the end of the data, and taking
// over a server started with other settings would surprise. A postmaster.pid
// that names a process that is no server of this home is stale and goes.
//
// PostgreSQL refuses to run as root, rightly. Started by root, the server runs
// as user "postgres" if there is one, else "nobody", and the home belongs to it.
//
// # Who may connect
//
// Through the socket, whose directory only the server's user (and root) can
// enter, without a password. Through TCP, if a port is given, on loopback and
// with the password (SCRAM): other users of the machine can reach a port.
package embedded

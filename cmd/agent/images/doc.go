// Package images says which images the process back end can run.
//
// The bundled agent pulls nothing: an "image" is an interpreter of this machine behind a reference that looks like any
// other, so that managers, clients and the web UI need not know the difference.
//
//	/usr/bin/python3 (3.11)  ─ Detect ─▶  cr.backend.ai/stable/python:3.11-process  runtime-type python
//	/usr/bin/bash    (5.2)   ─ Detect ─▶  cr.backend.ai/stable/bash:5.2-process     runtime-type shell
//
// The agent lists them in its heartbeat; the command that sets up a cluster on one machine puts the same list, with
// labels, into the images table. Both call [Detect], so they agree without talking to each other.
package images

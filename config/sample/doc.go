// Package sample carries example files of manager.toml, for `backend.ai mgr` to print and for tests to hold the reader to.
package sample

import _ "embed"

// Halfstack is the development set-up of 22.03: etcd, PostgreSQL and Redis on the ports of its compose file (spec/config-cli-ops §1.9).
//
//go:embed halfstack.toml
var Halfstack []byte

// Production is a commented example for several managers behind one address.
//
//go:embed production.toml
var Production []byte

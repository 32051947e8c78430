// Package logging turns the [logging] table of manager.toml into a slog.Logger.
//
//	slog record ─► namespace level ─► overall level ─► console   one line on stderr
//	                                               ├─► file      one JSON object a line, rotated by size
//	                                               └─► logstash  bounded queue ─► tcp, udp or ZeroMQ
//
// Vocabulary: a namespace is the dotted name of a logger. All of this program lives below "ai.backend", the name under which operators
// have configured the original's logs; Named(log, "agent") logs as "ai.backend.agent". A record must pass both the level of its
// longest configured namespace and the overall level (spec/config-cli-ops §1.5).
//
// Nothing here blocks a caller on a network: logstash records wait in a bounded queue, and when it is full they are dropped
// and counted; System.Dropped tells the count.
package logging

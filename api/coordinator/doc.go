// Package coordinator talks to the coordinators of scaling groups (wsproxy): small services through which browsers reach the apps in
// sessions.
//
//	session's app ◀─ coordinator ◀─ browser
//	                     ▲
//	start-service ─ /status, /v2/conf (spec/rest-session §5.1)      scaling groups ─ /status: which API (spec/rest-core §7.9)
package coordinator

// Package errorlog writes public.error_logs, the errors that administrators look
// through: those of agents, and those that clients met (spec/database §4.17).
//
//	agent's event ──────┐
//	POST /logs/error ───┼─▶ Insert ─▶ public.error_logs
//	failed request ─────┘
package errorlog

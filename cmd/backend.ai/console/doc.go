// Package console is how commands speak with the person or script that calls them.
//
//	stdout   results: texts and tables, or one JSON document with --format json
//	stderr   logs, progress, errors
//
//	wrong usage    Usage: …, Try '… -h' for help., Error: …      exit code 2
//	failure        Error: …                                      exit code 1
//	signal         Interrupted!                                  as by the signal
//
// (spec/config-cli-ops §4.1)
package console

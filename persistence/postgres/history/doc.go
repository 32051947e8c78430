// Package history removes what ended long ago: rows of kernels, and with them, by cascading foreign keys, those of session dependencies
// and folder attachments. (spec/config-cli-ops §4.10)
package history

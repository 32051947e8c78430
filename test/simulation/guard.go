//go:build !plantedbug

package simulation

// skipEpochCheck plants a bug: the journal takes the rows of deposed owners. Build with -tags plantedbug.
const skipEpochCheck = false

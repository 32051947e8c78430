//go:build plantedbug

package simulation

// skipEpochCheck plants a bug: the journal takes the rows of deposed owners.
const skipEpochCheck = true

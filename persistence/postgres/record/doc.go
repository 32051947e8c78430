// Package record holds the rows of what lives as plain Go values: one Kernel
// per row of public.kernels, one Agent per row of public.agents.
//
// Actors keep these values as their state, change them in their pure cores and
// hand the changes to the journal; on a takeover they are read back and the
// actor goes on where the row says it was.
//
//	public.kernels ──Load──▶ record.Kernel ──core.Step──▶ record.KernelPatch ──journal──▶ public.kernels
//
// A session has no table of its own in this generation: the row whose
// cluster_role is "main" stands for it and carries its id (spec/database §8.1).
//
// The package imports nothing that does I/O besides scanning: a Patch says what
// to write, package journal writes it.
package record

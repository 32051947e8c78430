// Package resource is /resource: the presets of resources that users choose from, and what of them they can have now
// (spec/rest-core §7.8).
//
//	GET  /resource/presets            ─▶ all of them
//	POST /resource/check-presets      ─▶ limits, use and room of keypair, project and scaling groups ─▶ which presets are allocatable
//	POST /resource/recalculate-usage  ─▶ every scheduler reads its rows again and writes what it derives of them anew
//
// The decision which presets can be had is enqueue.CheckPresets, which is pure.
package resource

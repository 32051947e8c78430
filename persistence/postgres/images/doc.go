// Package images keeps the table of images that sessions may use, and the aliases that stand for them.
//
//	alias "python" ──▶ cr.backend.ai/stable/python:3.11  x86_64 ──▶ labels, limits, digest
//
// An image is named by its canonical reference and architecture; the pair is unique here, also in databases whose schema does not say
// so. (spec/config-cli-ops §5.4, §5.5)
//
// Every operation is one transaction. Running managers learn of it by the tables' notifications.
package images

// Package signing signs requests and checks signatures, as pure functions: no clock, no I/O. The server uses it to verify, the
// bundled command line to sign.
//
//	Authorization: BackendAI signMethod=HMAC-SHA256, credential=AKIA…:9f3c…
//	                         ──── Method ────────               │      │
//	                                                      access key   signature
//
//	secret ──HMAC day──▶ k1 ──HMAC host──▶ k2 (Key) ──HMAC text (Subject.Text)──▶ signature
//
// # Words
//
//   - subject: what is signed of a request: method, target, date, host, content type, version
//   - method: "HMAC-SHA256": which hash function all three HMACs use
//   - key: k2; it is good for one secret, day, host and method, so a server keeps it (package api does)
//
// The body is not part of what is signed: the last line of the text is the hash of the empty string since v4.20181215
// (spec/rest-core §2.5).
//
// # Dates
//
// The day of the key is that of the date header in the header's own offset, so parsing has to keep the offset. ParseDate reads what the
// original's lenient parser reads of the forms that clients send (spec/rest-core §2.3, appendix A).
package signing

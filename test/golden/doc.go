// Package golden replays recorded requests against a manager and compares its answers with the recorded ones, field by field.
//
//	capture (JSON) ──Load──▶ entries ──Replay──▶ request, dated now and signed again ──▶ answer ──Compare──▶ test failures
//
// # Words
//
//   - capture: a list of requests with the answers of the original 22.03.3, in order; a JSON file in the testdata of the package that
//     serves them
//   - difference: an entry where the answer is meant to be another one, what it is, and why
//   - binding: a value that the original drew (an id, a key) and the one that stands for it now; later requests use the new one
//
// # What is compared how
//
// Status and bodies exactly, except for values that are drawn or measured: ids, times, access keys, and secrets that the recording left
// out, are compared by shape. Headers by name and value; Content-Length only where the body is equal, X-RateLimit-Remaining only as a
// number.
//
// # Dates and signatures
//
// All dates of a capture are moved by one amount, so that the middle one is now; what was late or early stays so. A request is signed
// again if its recorded signature was right, or if it is of a key that this replay made; wrong ones stay wrong.
package golden

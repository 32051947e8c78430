// Package credential makes and checks the secrets that rows hold: password
// hashes of users and SSH keys of keypairs. Access and secret keys are words of
// the root package (backendai.NewKeypair).
//
// Hashes are those of the original (spec/database §7), so users keep their
// passwords when a database is adopted, and when it goes back.
//
//	"my-pet-name" ─ HashPassword ─▶ $2b$12$…  ─ CheckPassword ─▶ the same word or not
package credential

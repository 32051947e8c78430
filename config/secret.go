package config

import (
	"fmt"
	"log/slog"
)

// mask is what a secret shows of itself.
const mask = "***"

// Secret is a password or token. It prints, logs and encodes as ***; Reveal gives the text. The zero value means that there is none.
type Secret struct{ text string }

// NewSecret wraps a text.
func NewSecret(text string) Secret { return Secret{text} }

// Reveal returns the text itself, for the call that needs it.
func (s Secret) Reveal() string { return s.text }

// IsZero tells whether there is no secret.
func (s Secret) IsZero() bool { return s.text == "" }

// Format keeps the text out of every fmt verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.shown())) }

// LogValue keeps the text out of logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.shown()) }

// MarshalText keeps the text out of JSON and TOML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.shown()), nil }

// An absent secret may be told from a present one: "no password" is what an operator looks for.
func (s Secret) shown() string {
	if s.text == "" {
		return ""
	}
	return mask
}

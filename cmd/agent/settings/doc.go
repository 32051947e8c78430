// Package settings reads what an agent is told: a file in the original's form, then flags, which win.
//
// The file is looked for as ./agent.toml, ~/.config/backend.ai/agent.toml and /etc/backend.ai/agent.toml, unless it is named. None is fine.
// Keys of the original that mean nothing to processes (agent.mode, container.stats-type …) are read over.
package settings

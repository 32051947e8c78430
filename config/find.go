package config

import (
	"os"
	"path/filepath"
	"strings"

	backendai "backend.ai/manager"
)

// FileName is what the search looks for.
const FileName = "manager.toml"

// EnvFile names the variable that replaces the search.
const EnvFile = "BACKEND_CONFIG_FILE"

// Find says which file to read: the explicit path, else what EnvFile names, else the first regular file of ./manager.toml,
// ~/.config/backend.ai/manager.toml and /etc/backend.ai/manager.toml (spec/config-cli-ops §1.1). getenv may be nil for the process's own.
// Errors: InvalidConfig, naming what was searched.
func Find(explicit string, getenv func(string) string) (string, error) {
	if getenv == nil {
		getenv = os.Getenv
	}
	if explicit != "" {
		return existing(explicit, "")
	}
	if path := getenv(EnvFile); path != "" {
		return existing(path, " (named by "+EnvFile+")")
	}
	var searched []string
	if wd, err := os.Getwd(); err == nil {
		searched = append(searched, filepath.Join(wd, FileName))
	}
	if home := getenv("HOME"); home != "" {
		searched = append(searched, filepath.Join(home, ".config", "backend.ai", FileName))
	}
	searched = append(searched, filepath.Join("/etc/backend.ai", FileName))
	for _, path := range searched {
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() {
			return path, nil
		}
	}
	return "", backendai.Errorf(backendai.InvalidConfig, "no configuration file: none of %s exists", strings.Join(searched, ", "))
}

func existing(path, why string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", backendai.Errorf(backendai.InvalidConfig, "%s%s: %v", path, why, err)
	}
	if st, err := os.Stat(abs); err != nil || st.IsDir() {
		return "", backendai.Errorf(backendai.InvalidConfig, "%s%s: there is no such file", path, why)
	}
	return abs, nil
}

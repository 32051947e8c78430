package up

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"backend.ai/manager/cmd/backend.ai/client"
)

// pagePath is where the page about the live cluster is, if the manager has one.
const pagePath = "/inspect/"

// serves tells whether there is a page at a URL.
func serves(url string) bool {
	resp, err := (&http.Client{Timeout: 2 * time.Second}).Get(url)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// panel is what a person sees when the cluster is ready.
func panel(out io.Writer, c *Cluster, took time.Duration) {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-10s %s\n", name, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(&b, "\nBackend.AI is ready (%.1f s).\n\n", took.Seconds())
	line("endpoint", "%s", c.Endpoint())
	if c.account != nil {
		line("keys", "%s", c.dir.file(client.EnvFile))
	} else {
		line("keys", "those of the database, which had accounts before")
	}
	line("login", "%s", c.login())
	if page := c.Endpoint() + pagePath; serves(page) {
		line("page", "%s", page)
	}
	line("logs", "%s", c.dir.file("logs"))
	data := ""
	if c.o.Dir != client.DataDir() {
		data = "--data " + c.dir.path + " "
	}
	fmt.Fprintf(&b, "\nNext, in another terminal:\n\n  %s run %s-c 'print(6 * 7)' %s\n", program(), data, pythonAlias)
	if c.account != nil {
		fmt.Fprintf(&b, "\nThe official client works too:\n\n  source %s\n", c.dir.file(client.EnvFile))
	}
	fmt.Fprint(&b, "\n^C stops it.\n")
	_, _ = io.WriteString(out, b.String())
}

// program is how to call this binary again from a shell.
func program() string {
	self, err := os.Executable()
	if found, lookErr := exec.LookPath("backend.ai"); err == nil && lookErr == nil {
		if found, err := filepath.EvalSymlinks(found); err == nil && found == self {
			return "backend.ai"
		}
	}
	return os.Args[0]
}

// login tells where passwords are, never what they are: terminals are recorded.
func (c *Cluster) login() string {
	if c.account == nil {
		return "the database's own accounts"
	}
	return fmt.Sprintf("%s, password in %s", c.account.Email, c.dir.file(accountsFile))
}

package backendai

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestSessionNames(t *testing.T) { // spec/rest-session §2.1
	for name, want := range map[string]bool{
		"abcd": true, "a.-d": true, "_ab_": true, "A1-b.c_": true, strings.Repeat("a", 64): true, "from-template": true, "0000": true,
		"abc": false, "": false, strings.Repeat("a", 65): false, "-abc": false, "abc-": false, ".abc": false, "abc.": false, "ab d": false, "ab/d": false, "한글이름": false, "abcd\n": false,
	} {
		if ValidSessionName(name) != want {
			t.Errorf("%q: want %v", name, want)
		}
	}
	if err := CheckNewSessionName("from-template"); *AsError(err).Message != "Requested session ID from-template is reserved word" {
		t.Error(err)
	}
	if CheckNewSessionName("good-name") != nil || CodeOf(CheckNewSessionName("x")) != InvalidAPIParameters {
		t.Error("CheckNewSessionName")
	}
}

func TestKeypairs(t *testing.T) {
	access, secret := NewKeypair()
	other, _ := NewKeypair()
	if !access.Generated() || access == other || len(access) != 20 || !regexp.MustCompile(`^[A-Za-z0-9_-]{40}$`).MatchString(secret.Reveal()) {
		t.Errorf("access key %s, secret of %d characters", access, len(secret.Reveal()))
	}
	if AccessKey("AKIA1").Generated() || AccessKey("AKIA0000000000000000").Generated() {
		t.Error("shape")
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", secret)
	for _, text := range []string{fmt.Sprint(secret), fmt.Sprintf("%q %x %+v", secret, secret, struct{ K SecretKey }{secret}), log.String()} {
		if strings.Contains(text, secret.Reveal()) || !strings.Contains(text, "<redacted>") {
			t.Error("a secret shows")
		}
	}
}

func TestIDs(t *testing.T) {
	id := NewSessionID()
	back, err := ParseSessionID(id.String())
	if err != nil || back != id || id.IsZero() || !(SessionID{}).IsZero() || id.MainKernel().String() != id.String() {
		t.Error(id, back, err)
	}
	hex, err := ParseKernelID(strings.ReplaceAll(id.String(), "-", ""))
	if err != nil || hex != id.MainKernel() {
		t.Error(hex, err)
	}
	for _, bad := range []string{"", "x", "{" + id.String() + "}", "urn:uuid:" + id.String(), strings.Repeat("g", 32)} {
		if _, err := ParseKernelID(bad); CodeOf(err) != InvalidArgument {
			t.Errorf("%q: %v", bad, err)
		}
	}
	var decoded struct{ ID SessionID }
	raw, _ := json.Marshal(struct{ ID SessionID }{id})
	if err := json.Unmarshal(raw, &decoded); err != nil || decoded.ID != id || !strings.Contains(string(raw), id.String()) {
		t.Error(string(raw), err)
	}
	if c := NewCreationID(); len(c) != 22 || c == NewCreationID() {
		t.Error(c)
	}
}

func TestClusterNames(t *testing.T) {
	var names []string
	for _, m := range ReplicateMain(3) {
		names = append(names, m.Hostname())
	}
	if !slices.Equal(names, []string{"main1", "sub1", "sub2"}) || len(ReplicateMain(0)) != 1 {
		t.Error(names)
	}
}

func TestReservedNames(t *testing.T) {
	for name, want := range map[string]bool{".bashrc": true, ".bash_profile": true, ".zsh_profile": true, ".ssh": true, "/home": true, "data": false, ".local": false} {
		if ReservedVFolderName(name) != want {
			t.Errorf("%s: want %v", name, want)
		}
	}
	if !ReservedDotfile(".ssh/authorized_keys") || ReservedDotfile(".bashrc") || !ValidSlug("a.b-c") || ValidSlug("-a") || ValidSlug("") {
		t.Error("dotfiles, slugs")
	}
}

func TestEnums(t *testing.T) {
	for text, want := range map[string]ClusterMode{"single-node": SingleNode, "SINGLE_NODE": SingleNode, "multi-node": MultiNode, "MULTI_NODE": MultiNode} {
		if m, err := ParseClusterMode(text); err != nil || m != want {
			t.Error(text, m, err)
		}
	}
	if ty, err := ParseSessionType("BATCH"); err != nil || ty != Batch || ty.DBName() != "BATCH" {
		t.Error(ty, err)
	}
	if r, err := ParseSessionResult("undefined"); err != nil || r.DBName() != "UNDEFINED" {
		t.Error(r, err)
	}
	for _, err := range []error{second(ParseUserRole("root")), second(ParseUserStatus("")), second(ParseAgentStatus("alive")), second(ParseAutoPull("x")),
		second(ParseVFolderPermission("w")), second(ParseSlotType("bits")), second(ParseSessionType("inference")), second(ParseClusterMode("x"))} {
		if CodeOf(err) != InvalidArgument {
			t.Error(err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

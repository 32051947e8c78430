package backendai

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// SessionID identifies a session. It equals the id of the session's main kernel (spec/scheduling §1.1). The zero value is no session.
type SessionID struct{ uuid.UUID }

// KernelID identifies a kernel. The zero value is no kernel.
type KernelID struct{ uuid.UUID }

// NewSessionID draws a random id.
func NewSessionID() SessionID { return SessionID{uuid.New()} }

// NewKernelID draws a random id, for kernels other than the main one.
func NewKernelID() KernelID { return KernelID{uuid.New()} }

// MainKernel is the id of the session's main kernel.
func (id SessionID) MainKernel() KernelID { return KernelID(id) }

// IsZero tells whether there is no id.
func (id SessionID) IsZero() bool { return id.UUID == uuid.Nil }

// IsZero tells whether there is no id.
func (id KernelID) IsZero() bool { return id.UUID == uuid.Nil }

// ParseSessionID accepts the dashed and the 32-digit form. Errors: InvalidArgument.
func ParseSessionID(text string) (SessionID, error) {
	u, err := parseUUID(text)
	return SessionID{u}, err
}

// ParseKernelID accepts the dashed and the 32-digit form. Errors: InvalidArgument.
func ParseKernelID(text string) (KernelID, error) {
	u, err := parseUUID(text)
	return KernelID{u}, err
}

func parseUUID(text string) (uuid.UUID, error) {
	if n := len(text); n != 36 && n != 32 { // uuid.Parse would also take urn: and braced forms
		return uuid.Nil, Errorf(InvalidArgument, "badly formed hexadecimal UUID string")
	}
	u, err := uuid.Parse(text)
	if err != nil {
		return uuid.Nil, Errorf(InvalidArgument, "badly formed hexadecimal UUID string").WithCause(err)
	}
	return u, nil
}

// AgentID is the name an agent registers with, e.g. "i-gpu03".
type AgentID string

// ScalingGroup is the name of a pool of agents.
type ScalingGroup string

// CreationID ties the events of one creation to the request that waits for them.
type CreationID string

// NewCreationID draws 16 random bytes as 22 characters of URL-safe base64 (spec/scheduling §4).
func NewCreationID() CreationID { return CreationID(RandomToken(16)) }

// RandomToken is n random bytes as URL-safe base64 without padding.
func RandomToken(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(b)
}

// AccessKey names a keypair; it is public.
type AccessKey string

// SecretKey signs requests. It prints as "<redacted>" in logs and messages; Reveal gives the text.
type SecretKey string

// NewKeypair draws a keypair: "AKIA" + base32 of 10 random bytes, and URL-safe base64 of 30 (spec/config-cli-ops §4.9).
func NewKeypair() (AccessKey, SecretKey) {
	b := make([]byte, 10)
	_, _ = rand.Read(b)
	return AccessKey("AKIA" + base32.StdEncoding.EncodeToString(b)), SecretKey(RandomToken(30))
}

var accessKeyShape = regexp.MustCompile(`^AKIA[A-Z2-7]{16}$`)

// Generated tells whether the key has the shape that NewKeypair gives. Keys made by hand (fixtures) may look otherwise and are valid too.
func (k AccessKey) Generated() bool { return accessKeyShape.MatchString(string(k)) }

// Reveal returns the secret text.
func (k SecretKey) Reveal() string { return string(k) }

// Format keeps the secret out of every fmt verb.
func (k SecretKey) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("<redacted>")) }

// LogValue keeps the secret out of logs.
func (k SecretKey) LogValue() slog.Value { return slog.StringValue("<redacted>") }

// sessionNameShape has no look-ahead in Go: the length is checked apart.
var sessionNameShape = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*[A-Za-z0-9_]$`)

// reservedSessionName is a path segment of the API.
const reservedSessionName = "from-template"

// ValidSessionName tells whether a name may be given to a session: 4 to 64 ASCII letters, digits, "_", "." and "-", the first and last
// no "." or "-" (spec/rest-session §2.1).
func ValidSessionName(name string) bool {
	return len(name) >= 4 && len(name) <= 64 && sessionNameShape.MatchString(name)
}

// CheckNewSessionName also refuses the reserved name. Errors: InvalidAPIParameters.
func CheckNewSessionName(name string) error {
	switch {
	case name == reservedSessionName:
		return Errorf(InvalidAPIParameters, "Requested session ID %s is reserved word", name)
	case !ValidSessionName(name):
		return Errorf(InvalidAPIParameters, "Invalid session name: 4 to 64 letters, digits, '_', '.', '-'; the first and last no '.' or '-'")
	}
	return nil
}

var slugShape = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9._-]*[a-zA-Z0-9])?$`)

// ValidSlug is the rule for names of domains and groups (spec/database §8.5).
func ValidSlug(name string) bool { return slugShape.MatchString(name) }

// Cluster roles. Templates may give others.
const (
	MainRole = "main"
	SubRole  = "sub"
)

// ClusterHostname is the name of a kernel inside its cluster: role and index, "main1", "sub2" (spec/rest-session §3.7).
func ClusterHostname(role string, index int) string { return role + strconv.Itoa(index) }

// ClusterMember is the place of one kernel in its session; indexes count from 1 within the role.
type ClusterMember struct {
	Role  string
	Index int
}

// Hostname is the member's ClusterHostname.
func (m ClusterMember) Hostname() string { return ClusterHostname(m.Role, m.Index) }

// ReplicateMain lays a session of size kernels out from one kernel: main1, sub1 … sub{size−1} (spec/scheduling §4). Size below 1
// counts as 1.
func ReplicateMain(size int) []ClusterMember {
	members := []ClusterMember{{MainRole, 1}}
	for i := 1; i < size; i++ {
		members = append(members, ClusterMember{SubRole, i})
	}
	return members
}

var reservedVFolderNames = strings.Fields(".terminfo .jupyter .tmux.conf .ssh /bin /boot /dev /etc /lib /lib64 /media /mnt /opt /proc " +
	"/root /run /sbin /srv /sys /tmp /usr /var /home")

var reservedVFolderPatterns = regexp.MustCompile(`^\.[a-z0-9]+(rc|_profile)$`)

// ReservedVFolderName tells whether a folder name would shadow a system path or a dotfile (spec/database §8.5).
func ReservedVFolderName(name string) bool {
	return slices.Contains(reservedVFolderNames, name) || reservedVFolderPatterns.MatchString(name)
}

var reservedDotfiles = []string{".terminfo", ".jupyter", ".ssh", ".ssh/authorized_keys", ".local", ".config"}

// ReservedDotfile tells whether a path may not be a dotfile (spec/database §8.5).
func ReservedDotfile(path string) bool { return slices.Contains(reservedDotfiles, path) }

package accounts

import (
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
)

// Credential is an active keypair, its user and its policy (spec/rest-core §2.6).
type Credential struct {
	Keypair Keypair
	User    User
	Policy  Policy
	// Secret signs; it is the only secret here and never part of an answer.
	Secret backendai.SecretKey
}

// IsAdmin is a property of the keypair, not of the user's role.
func (c *Credential) IsAdmin() bool { return c.Keypair.IsAdmin }

// IsSuperadmin is a property of the user's role, not of the keypair.
func (c *Credential) IsSuperadmin() bool { return c.User.Role == backendai.RoleSuperadmin }

// Keypair is a row of keypairs without its secrets. Dotfiles and the bootstrap script are read where they are needed.
type Keypair struct {
	AccessKey      backendai.AccessKey
	UserID         string // the owner's e-mail, as the keypair has it
	IsActive       bool
	IsAdmin        bool
	CreatedAt      *time.Time
	ModifiedAt     *time.Time
	LastUsed       *time.Time
	RateLimit      *int // per 15 minutes; nil where the row has none
	ResourcePolicy string
	SSHPublicKey   *string
}

// User is a row of users without its password.
type User struct {
	ID                 uuid.UUID
	Username           *string
	Email              string
	NeedPasswordChange bool
	FullName           *string
	Status             backendai.UserStatus
	StatusInfo         *string
	ModifiedAt         *time.Time
	IntegrationID      *string
	Domain             string // "" where the row has none
	Role               backendai.UserRole
}

// Policy is a row of keypair_resource_policies.
type Policy struct {
	Name                    string
	DefaultForUnspecified   backendai.DefaultForUnspecified
	TotalResourceSlots      backendai.ResourceSlots
	MaxSessionLifetime      time.Duration // 0 = unlimited
	MaxConcurrentSessions   int
	MaxContainersPerSession int
	MaxVFolderCount         int   // 0 = unlimited
	MaxVFolderSize          int64 // bytes; 0 = unlimited
	IdleTimeout             time.Duration
	AllowedVFolderHosts     []string
}

// Domain is a row of domains without its dotfiles.
type Domain struct {
	Name                    string
	Description             *string
	IsActive                bool
	TotalResourceSlots      backendai.ResourceSlots
	AllowedVFolderHosts     []string
	AllowedDockerRegistries []string
	IntegrationID           *string
}

// Group is a row of groups without its dotfiles.
type Group struct {
	ID                  uuid.UUID
	Name                string
	Description         *string
	IsActive            bool
	Domain              string
	TotalResourceSlots  backendai.ResourceSlots
	AllowedVFolderHosts []string
	IntegrationID       *string
}

// Owner is whose a keypair is, active or not.
type Owner struct {
	AccessKey backendai.AccessKey
	User      uuid.UUID
	Email     string
	Domain    string
	Role      backendai.UserRole
}

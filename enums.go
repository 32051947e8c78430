package backendai

import (
	"slices"
	"strings"
)

// Enumerations of the API and database. The Go value is always the text that the API uses; where the database stores another text (the
// upper-case name), DBName gives it (spec/database §3.2, spec/scheduling §1.2).

// UserRole is what a user may do.
type UserRole string

const (
	RoleSuperadmin UserRole = "superadmin"
	RoleAdmin      UserRole = "admin" // of one domain
	RoleUser       UserRole = "user"
	RoleMonitor    UserRole = "monitor" // reads what a superadmin reads, changes nothing
)

// UserRoles in enum order.
var UserRoles = []UserRole{RoleSuperadmin, RoleAdmin, RoleUser, RoleMonitor}

// UserStatus is the state of an account.
type UserStatus string

const (
	UserActive             UserStatus = "active"
	UserInactive           UserStatus = "inactive"
	UserDeleted            UserStatus = "deleted"
	UserBeforeVerification UserStatus = "before-verification"
)

// UserStatuses in enum order.
var UserStatuses = []UserStatus{UserActive, UserInactive, UserDeleted, UserBeforeVerification}

// SessionType is what a session is for.
type SessionType string

const (
	Interactive SessionType = "interactive"
	Batch       SessionType = "batch"
)

// SessionTypes in enum order.
var SessionTypes = []SessionType{Interactive, Batch}

// DBName is the label stored in the database.
func (t SessionType) DBName() string { return strings.ToUpper(string(t)) }

// SessionResult is how a batch session's command ended.
type SessionResult string

const (
	ResultUndefined SessionResult = "undefined"
	ResultSuccess   SessionResult = "success"
	ResultFailure   SessionResult = "failure"
)

// SessionResults in enum order.
var SessionResults = []SessionResult{ResultUndefined, ResultSuccess, ResultFailure}

// DBName is the label stored in the database.
func (r SessionResult) DBName() string { return strings.ToUpper(string(r)) }

// ClusterMode is whether a session's kernels share one agent.
type ClusterMode string

const (
	SingleNode ClusterMode = "single-node"
	MultiNode  ClusterMode = "multi-node"
)

// ClusterModes lists both.
var ClusterModes = []ClusterMode{SingleNode, MultiNode}

// AgentStatus is what the manager knows of an agent; the database stores the same text.
type AgentStatus string

const (
	AgentAlive      AgentStatus = "ALIVE"
	AgentLost       AgentStatus = "LOST"
	AgentRestarting AgentStatus = "RESTARTING"
	AgentTerminated AgentStatus = "TERMINATED"
)

// AgentStatuses in enum order.
var AgentStatuses = []AgentStatus{AgentAlive, AgentLost, AgentRestarting, AgentTerminated}

// DefaultForUnspecified is what a policy grants of slots it does not name.
type DefaultForUnspecified string

const (
	Limited   DefaultForUnspecified = "LIMITED"   // nothing
	Unlimited DefaultForUnspecified = "UNLIMITED" // any amount
)

// AutoPull is when an agent pulls an image (spec/config-cli-ops §5.8).
type AutoPull string

const (
	PullByDigest AutoPull = "digest"
	PullByTag    AutoPull = "tag"
	PullNever    AutoPull = "none"
)

// AutoPulls lists the choices.
var AutoPulls = []AutoPull{PullByDigest, PullByTag, PullNever}

// ImageType is the enum of images.type; 22.03 uses COMPUTE only.
type ImageType string

const (
	ImageCompute ImageType = "COMPUTE"
	ImageSystem  ImageType = "SYSTEM"
	ImageService ImageType = "SERVICE"
)

// VFolderPermission is what a mount or a share allows.
type VFolderPermission string

const (
	ReadOnly     VFolderPermission = "ro"
	ReadWrite    VFolderPermission = "rw"
	ReadWriteDel VFolderPermission = "wd" // also the owner's own
)

// VFolderPermissions in enum order.
var VFolderPermissions = []VFolderPermission{ReadOnly, ReadWrite, ReadWriteDel}

// VFolderUsage is what a folder is for.
type VFolderUsage string

const (
	UsageGeneral VFolderUsage = "general"
	UsageModel   VFolderUsage = "model"
	UsageData    VFolderUsage = "data"
)

// VFolderUsages in enum order.
var VFolderUsages = []VFolderUsage{UsageGeneral, UsageModel, UsageData}

// VFolderOwnership is whose a folder is.
type VFolderOwnership string

const (
	OwnedByUser  VFolderOwnership = "user"
	OwnedByGroup VFolderOwnership = "group"
)

// InvitationState is where an invitation to a folder stands.
type InvitationState string

const (
	InvitationPending  InvitationState = "pending"
	InvitationCanceled InvitationState = "canceled"
	InvitationAccepted InvitationState = "accepted"
	InvitationRejected InvitationState = "rejected"
)

// TemplateType is the enum of session_templates.type.
type TemplateType string

const (
	TaskTemplate    TemplateType = "TASK"
	ClusterTemplate TemplateType = "CLUSTER"
)

// ParseSessionType accepts the API value and the database label. Errors: InvalidArgument.
func ParseSessionType(text string) (SessionType, error) {
	return oneOf("session type", SessionType(strings.ToLower(text)), SessionTypes)
}

// ParseSessionResult accepts the API value and the database label. Errors: InvalidArgument.
func ParseSessionResult(text string) (SessionResult, error) {
	return oneOf("session result", SessionResult(strings.ToLower(text)), SessionResults)
}

// ParseClusterMode accepts the value and, because old rows hold it, the name ("SINGLE_NODE"). Errors: InvalidArgument.
func ParseClusterMode(text string) (ClusterMode, error) {
	return oneOf("cluster mode", ClusterMode(strings.ReplaceAll(strings.ToLower(text), "_", "-")), ClusterModes)
}

// ParseUserRole accepts the exact value. Errors: InvalidArgument.
func ParseUserRole(text string) (UserRole, error) {
	return oneOf("user role", UserRole(text), UserRoles)
}

// ParseUserStatus accepts the exact value. Errors: InvalidArgument.
func ParseUserStatus(text string) (UserStatus, error) {
	return oneOf("user status", UserStatus(text), UserStatuses)
}

// ParseAgentStatus accepts the exact value. Errors: InvalidArgument.
func ParseAgentStatus(text string) (AgentStatus, error) {
	return oneOf("agent status", AgentStatus(text), AgentStatuses)
}

// ParseAutoPull accepts the exact value. Errors: InvalidArgument.
func ParseAutoPull(text string) (AutoPull, error) {
	return oneOf("auto-pull behavior", AutoPull(text), AutoPulls)
}

// ParseVFolderPermission accepts the exact value. Errors: InvalidArgument.
func ParseVFolderPermission(text string) (VFolderPermission, error) {
	return oneOf("vfolder permission", VFolderPermission(text), VFolderPermissions)
}

func oneOf[T ~string](what string, value T, all []T) (T, error) {
	if slices.Contains(all, value) {
		return value, nil
	}
	return "", Errorf(InvalidArgument, "unknown %s: %s", what, Repr(clip(string(value))))
}

package enqueue

import (
	"encoding/json"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/persistence/postgres/record"
)

// IDs makes new ids; it is the only source of chance in a plan.
type IDs interface {
	UUID() uuid.UUID
	CreationID() string
}

func refuse(format string, args ...any) error {
	return backendai.Errorf(backendai.InvalidAPIParameters, format, args...)
}

// CheckRequest checks what needs no facts (spec/rest-session §3.2, §3.4).
func CheckRequest(r *Request, requester backendai.UserRole) error {
	if err := backendai.CheckNewSessionName(r.Name); err != nil {
		return err
	}
	if len(r.Config.AgentList) > 0 {
		if requester != backendai.RoleSuperadmin {
			return backendai.Errorf(backendai.InsufficientPrivilege, "You are not allowed to manually assign agents for your session.")
		}
		switch n := len(r.Config.AgentList); {
		case r.ClusterMode == backendai.MultiNode && n != r.ClusterSize:
			return refuse("For multi-node cluster sessions, the number of manually assigned agents should be same to the cluster size.")
		case r.ClusterMode != backendai.MultiNode && n != 1:
			return refuse("For non-cluster sessions and single-node cluster sessions, you may specify only one manually assigned agent.")
		}
	}
	return checkMountMap(r.Config.MountMap)
}

// checkMountMap checks aliases of folders (spec/rest-session §3.4 step 2).
func checkMountMap(mounts map[string]string) error {
	seen := make(map[string]bool)
	for _, alias := range mounts {
		if seen[alias] {
			return refuse("Duplicate alias folder name exists.")
		}
		seen[alias] = true
	}
	for _, alias := range mounts {
		name := alias
		if strings.HasPrefix(name, "/home/work/") {
			name = strings.ReplaceAll(name, "/home/work/", "")
		}
		if name == "" {
			return refuse("Alias name cannot be empty.")
		}
		if backendai.ReservedVFolderName(name) {
			return refuse("%s is reserved for internal path.", name)
		}
		if _, ok := mounts[name]; ok {
			return refuse("Alias name cannot be set to an existing folder name: %s", name)
		}
	}
	return nil
}

// ChooseImage finds the image's row: the only one of its name whatever its architecture, else the one of the architecture
// asked for; and checks that the domain allows its registry. Errors: ImageNotFound, InvalidAPIParameters.
func ChooseImage(r *Request, f *Facts) (*Image, error) {
	image := matching(f.Images, r.Architecture)
	if image == nil {
		return nil, backendai.Errorf(backendai.ImageNotFound, "Unkown image references: ref:'%s', alias:'%s'", r.Image, r.Image)
	}
	switch {
	case f.Domain == nil:
		return nil, refuse("Invalid domain")
	case !slices.Contains(f.Domain.Registries, image.Registry):
		return nil, backendai.Errorf(backendai.ImageNotFound, "unknown alias or disallowed registry")
	}
	return image, nil
}

func matching(images []Image, arch string) *Image {
	byName := make(map[string]int)
	for _, im := range images {
		byName[im.Name]++
	}
	for i := range images {
		if byName[images[i].Name] == 1 || images[i].Architecture == arch {
			return &images[i]
		}
	}
	return nil
}

// Plan makes the session's rows. The caller has called CheckRequest and ChooseImage and has looked for a live session of the name.
// Errors: InvalidAPIParameters, InsufficientPrivilege, QuotaExceeded, ScalingGroupNotFound, VFolderNotFound, QueryNotImplemented (see resolveMounts).
func Plan(r *Request, f *Facts, image *Image, ids IDs) (*protocol.Create, error) {
	startsAt, err := startTime(r, f.Now)
	if err != nil {
		return nil, err
	}
	if err := checkScope(r, f); err != nil {
		return nil, err
	}
	if r.ClusterSize > f.Policy.MaxContainers {
		return nil, backendai.Errorf(backendai.QuotaExceeded, "You cannot create session with more than %d containers.", f.Policy.MaxContainers)
	}
	scalingGroup, err := chooseScalingGroup(r, f)
	if err != nil {
		return nil, err
	}
	mounts, err := resolveMounts(r, f)
	if err != nil {
		return nil, err
	}
	internal, err := internalData(f, mounts)
	if err != nil {
		return nil, err
	}
	need, opts, err := resolveResources(r, f, image)
	if err != nil {
		return nil, err
	}
	if err := checkWishes(opts, f); err != nil {
		return nil, err
	}
	if err := checkQueue(scalingGroup, f); err != nil {
		return nil, err
	}
	base := record.Kernel{
		SessionID: ids.UUID(), CreationID: ids.CreationID(), SessionName: r.Name, SessionType: r.Type,
		ClusterMode: r.ClusterMode, ClusterSize: r.ClusterSize, ScalingGroup: scalingGroup,
		DomainName: domainOf(r, f), GroupID: f.Group.ID, UserUUID: f.Owner.UserID, AccessKey: f.Owner.AccessKey,
		Image: image.Name, Architecture: image.Architecture, Registry: image.Registry, Tag: r.Tag,
		OccupiedSlots: need, ResourceOpts: opts, BootstrapScript: bootstrap(r, f), StartupCommand: r.StartupCommand,
		CreatedAt: f.Now, StartsAt: startsAt, Status: backendai.Pending, CallbackURL: r.CallbackURL,
		Result: backendai.ResultUndefined, InternalData: internal,
	}
	for _, v := range r.Config.Environ {
		base.Environ = append(base.Environ, v.Name+"="+v.Value)
	}
	for _, p := range r.Config.PreopenPorts {
		base.PreopenPorts = append(base.PreopenPorts, int32(p))
	}
	if base.VFolderMounts, err = json.Marshal(mounts); err != nil {
		return nil, backendai.Internal(err)
	}
	for _, m := range mounts {
		base.Mounts = append(base.Mounts, m.Name)
	}
	c := &protocol.Create{
		Scheduling: f.Limits,
		Launch: protocol.Launch{IdleTimeout: f.Policy.IdleTimeout, AutoPull: f.AutoPull, OverlayMTU: f.OverlayMTU,
			Images: map[string]protocol.LaunchImage{image.Name: image.Launch}},
	}
	if c.Dependencies, err = dependencies(r, f); err != nil {
		return nil, err
	}
	for i, member := range backendai.ReplicateMain(r.ClusterSize) {
		k := base
		k.ClusterRole, k.ClusterIdx, k.ClusterHostname = member.Role, member.Index, member.Hostname()
		k.ID = k.SessionID
		if i > 0 {
			k.ID = ids.UUID()
		}
		if n := len(r.Config.AgentList); n > 0 {
			agent := r.Config.AgentList[min(i, n-1)] // one for all kernels of a single node (FIX)
			if !f.Agents[agent] {
				return nil, refuse("No such agent: %s", agent)
			}
			k.Agent = &agent
		}
		c.Kernels = append(c.Kernels, &k)
	}
	return c, nil
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func domainOf(r *Request, f *Facts) string {
	if r.Domain != "" {
		return r.Domain
	}
	return f.Owner.Domain
}

// startTime checks what batch sessions alone may have, and reads starts_at.
func startTime(r *Request, now time.Time) (*time.Time, error) {
	if r.Type == backendai.Batch && (r.StartupCommand == nil || *r.StartupCommand == "") {
		return nil, refuse("Batch sessions must have a non-empty startup command.")
	}
	if r.StartsAt == nil {
		return nil, nil
	}
	if r.Type != backendai.Batch {
		return nil, refuse("Parameter starts_at should be used only for batch sessions")
	}
	at, ok := ParseStart(*r.StartsAt, now)
	if !ok {
		return nil, refuse("_parse_starts_at: '%s' is neither an ISO 8601 time nor a duration such as 1h30m", *r.StartsAt)
	}
	return &at, nil
}

// checkScope checks domain and project (spec/rest-session §3.5).
func checkScope(r *Request, f *Facts) error {
	if f.Domain == nil || !f.Domain.Active {
		return refuse("Invalid domain")
	}
	member := f.Group != nil && f.Group.Member
	switch f.Owner.Role {
	case backendai.RoleSuperadmin:
		member = f.Group != nil
	case backendai.RoleAdmin:
		if domainOf(r, f) != f.Owner.Domain {
			return refuse("You can only set the domain to the owner's domain.")
		}
		member = f.Group != nil
	default:
		if domainOf(r, f) != f.Owner.Domain {
			return refuse("You can only set the domain to your domain.")
		}
	}
	if !member {
		return refuse("Invalid group")
	}
	return nil
}

func chooseScalingGroup(r *Request, f *Facts) (string, error) {
	if len(f.ScalingGroups) == 0 {
		return "", backendai.Errorf(backendai.ScalingGroupNotFound, "You have no scaling groups allowed to use.")
	}
	if r.Config.ScalingGroup == nil {
		return f.ScalingGroups[0], nil
	}
	if !slices.Contains(f.ScalingGroups, *r.Config.ScalingGroup) {
		return "", backendai.Errorf(backendai.ScalingGroupNotFound, "The scaling group %s does not exist.", *r.Config.ScalingGroup)
	}
	return *r.Config.ScalingGroup, nil
}

func bootstrap(r *Request, f *Facts) *string {
	if r.BootstrapScript != nil && *r.BootstrapScript != "" {
		return r.BootstrapScript
	}
	if f.BootstrapScript != "" {
		return &f.BootstrapScript
	}
	return r.BootstrapScript
}

// internalData gathers dotfiles and key pair for the agent (spec/scheduling-lifecycle §4 step 4).
func internalData(f *Facts, mounts []Mount) (json.RawMessage, error) {
	for _, d := range f.Dotfiles {
		target := d.Path
		if !path.IsAbs(target) {
			target = path.Join(workDir, target)
		}
		for _, m := range mounts {
			if m.KernelPath == path.Clean(target) {
				return nil, refuse("There is a kernel-side path from vfolders that conflicts with a dotfile '%s'.", d.Path)
			}
		}
	}
	data := map[string]any{"dotfiles": orEmpty(f.Dotfiles)} // always there, as the original sends it
	if f.SSHPublicKey != "" && f.SSHPrivateKey != "" {
		data["ssh_keypair"] = map[string]string{"public_key": f.SSHPublicKey, "private_key": string(f.SSHPrivateKey)}
	}
	doc, err := json.Marshal(data)
	if err != nil {
		return nil, backendai.Internal(err)
	}
	return doc, nil
}

func dependencies(r *Request, f *Facts) ([]protocol.Dependency, error) {
	var list []protocol.Dependency
	for i, ref := range r.Dependencies {
		if i >= len(f.Dependencies) || f.Dependencies[i] == nil {
			return nil, backendai.Errorf(backendai.InvalidAPIParameters, "Unknown session ID or name in the dependency list").
				WithData(map[string]any{"session_ref": ref})
		}
		d := *f.Dependencies[i]
		if !slices.ContainsFunc(list, func(o protocol.Dependency) bool { return o.ID == d.ID }) {
			list = append(list, d)
		}
	}
	return list, nil
}

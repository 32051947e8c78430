package session

import (
	"encoding/json"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/actors/protocol"
)

// clusterInfo is what the kernels of one session share (spec/agent-protocol §4.6).
func clusterInfo(members []*Member, network string, keys *callosum.SSHKeyPair) callosum.ClusterInfo {
	main := &members[0].Row
	info := callosum.ClusterInfo{Mode: string(main.ClusterMode), Size: len(members), Replicas: replicas(members), SSHKeyPair: keys}
	if network != "" {
		info.NetworkName = &network
	}
	return info
}

func replicas(members []*Member) map[string]int {
	n := make(map[string]int)
	for _, m := range members {
		n[m.Row.ClusterRole]++
	}
	return n
}

// kernelConfig is the creation config of one kernel (spec/agent-protocol §4.1–§4.5).
func kernelConfig(members []*Member, m *Member, launch *protocol.Launch) callosum.KernelCreationConfig {
	row := &m.Row
	image := launch.Images[row.Image]
	config := callosum.KernelCreationConfig{
		Image: callosum.ImageConfig{
			Registry: callosum.ImageRegistry{Name: image.RegistryName, URL: image.RegistryURL, Username: image.Username, Password: string(image.Password)},
			// The column is padded with blanks; agents compare the digest with their own (spec/agent-protocol §4.2).
			Digest: strings.TrimRight(image.Digest, " "), Canonical: row.Image, Architecture: row.Architecture, Labels: image.Labels,
		},
		SessionType: string(row.SessionType), ClusterRole: row.ClusterRole, ClusterIdx: row.ClusterIdx, ClusterHostname: row.ClusterHostname,
		IdleTimeout: int(launch.IdleTimeout), Environ: environ(members, m), ResourceSlots: row.OccupiedSlots.Strings(),
		BootstrapScript: row.BootstrapScript, StartupCommand: row.StartupCommand, AutoPull: launch.AutoPull,
	}
	for _, p := range members[0].Row.PreopenPorts {
		config.PreopenPorts = append(config.PreopenPorts, int(p))
	}
	// These columns were written by this manager or its predecessor as JSON; one that does not decode is left out rather than
	// keeping the session from starting.
	_ = json.Unmarshal(orNull(members[0].Row.VFolderMounts), &config.Mounts)
	_ = json.Unmarshal(orNull(row.ResourceOpts), &config.ResourceOpts)
	if len(row.InternalData) > 0 && string(row.InternalData) != "null" {
		var data callosum.InternalData
		if json.Unmarshal(row.InternalData, &data) == nil {
			config.InternalData = &data
		}
	}
	return config
}

func orNull(doc json.RawMessage) []byte {
	if len(doc) == 0 {
		return []byte("null")
	}
	return doc
}

// environ is the main row's environment and what the manager adds (spec/agent-protocol §4.4).
func environ(members []*Member, m *Member) map[string]string {
	main, row := &members[0].Row, &m.Row
	env := make(map[string]string, len(main.Environ)+11)
	for _, kv := range main.Environ {
		k, v, _ := strings.Cut(kv, "=")
		env[k] = v
	}
	hosts := make([]string, len(members))
	for i, o := range members {
		hosts[i] = o.Row.ClusterHostname
	}
	var counts []string
	for role, n := range replicas(members) {
		counts = append(counts, fmt.Sprintf("%s:%d", role, n))
	}
	sort.Strings(counts)
	for k, v := range map[string]string{
		"BACKENDAI_SESSION_ID":       row.SessionID.String(),
		"BACKENDAI_SESSION_NAME":     row.SessionName,
		"BACKENDAI_CLUSTER_SIZE":     strconv.Itoa(len(members)),
		"BACKENDAI_CLUSTER_REPLICAS": strings.Join(counts, ","),
		"BACKENDAI_CLUSTER_HOSTS":    strings.Join(hosts, ","),
		"BACKENDAI_ACCESS_KEY":       row.AccessKey,
		"BACKENDAI_KERNEL_ID":        row.ID.String(),
		"BACKENDAI_KERNEL_IMAGE":     row.Image,
		"BACKENDAI_CLUSTER_ROLE":     row.ClusterRole,
		"BACKENDAI_CLUSTER_IDX":      strconv.Itoa(row.ClusterIdx),
		"BACKENDAI_CLUSTER_HOST":     row.ClusterHostname,
	} {
		env[k] = v
	}
	return env
}

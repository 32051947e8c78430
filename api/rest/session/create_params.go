package session

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/enqueue"
	"backend.ai/manager/actors/store"
	"backend.ai/manager/api"
	"backend.ai/manager/api/params"
)

// createParams are the root parameters of POST /session (spec/rest-session §3.1).
type createParams struct {
	enqueue.Request
	RawConfig      map[string]any
	EnqueueOnly    bool
	MaxWaitSeconds int
	Reuse          bool
	OwnerAccessKey *string
}

// sessionName complains in the words of the original, whose pattern has a look-ahead.
var sessionName = params.Text(backendai.ValidSessionName, `does not match pattern ^(?=.{4,64}$)\w[\w.-]*\w$`)

func (p *createParams) bind(b *params.Binder) {
	params.Need(b, &p.Name, sessionName, "name", "clientSessionToken")
	params.Need(b, &p.Image, params.Str, "image", "lang")
	params.Opt(b, &p.Architecture, store.HostArchitecture(), params.To(params.Str, backendai.NormalizeArchitecture), "arch", "architecture")
	params.Opt(b, &p.Type, backendai.Interactive, params.EnumOf("SessionTypes", backendai.SessionTypes...), "type", "sessionType")
	params.Opt(b, &p.Group, "default", params.Str, "group", "groupName", "group_name")
	params.Opt(b, &p.Domain, "default", params.Str, "domain", "domainName", "domain_name")
	params.Opt(b, &p.ClusterSize, 1, params.ToInt.AtLeast(1).Int, "cluster_size", "clusterSize")
	params.Opt(b, &p.ClusterMode, backendai.SingleNode, params.EnumOf("ClusterMode", backendai.ClusterModes...), "cluster_mode", "clusterMode")
	params.Opt(b, &p.RawConfig, nil, params.Dict, "config")
	params.Maybe(b, &p.Tag, params.Str, "tag")
	params.Opt(b, &p.EnqueueOnly, false, params.ToBool, "enqueueOnly")
	params.Opt(b, &p.MaxWaitSeconds, 0, params.ToInt.AtLeast(0).Int, "maxWaitSeconds")
	params.Maybe(b, &p.StartsAt, params.Str, "starts_at", "startsAt")
	params.Opt(b, &p.Reuse, true, params.ToBool, "reuseIfExists")
	params.Maybe(b, &p.StartupCommand, params.Str, "startupCommand")
	params.Maybe(b, &p.BootstrapScript, params.Str, "bootstrap_script", "bootstrapScript")
	params.Opt(b, &p.Dependencies, nil, params.Else(nil, params.List(params.To(params.UUIDOrStr, reference))), "dependencies")
	params.Maybe(b, &p.CallbackURL, params.URL, "callback_url", "callbackUrl", "callbackURL")
	params.Maybe(b, &p.OwnerAccessKey, params.Str, "owner_access_key")
}

func reference(v params.IDOrName) string {
	if v.IsID() {
		return v.ID.String()
	}
	return v.Name
}

// configParams is the config object. Each version of the API knows its own members (spec/rest-session §3.3).
type configParams struct {
	version api.Version
	enqueue.Config
}

func (p *configParams) bind(b *params.Binder) {
	v := p.version
	strings := params.Else(nil, params.List(params.Str))
	texts := params.Else(nil, params.Map(params.StrOrBlank)) // an empty value is a value (FIX)
	params.Opt(b, &p.Mounts, nil, strings, "mounts")
	var environ map[string]string
	params.Opt(b, &environ, nil, texts, "environ")
	for _, name := range sortedKeys(environ) {
		p.Environ = append(p.Environ, enqueue.Variable{Name: name, Value: environ[name]})
	}
	if !v.AtLeast(6, "20200815") { // validated and not used: the root parameter counts
		var size *int
		names := []string{"cluster_size", "clusterSize"}
		if !v.AtLeast(4, "20190315") {
			names = names[1:]
		}
		params.Maybe(b, &size, params.ToInt.AtLeast(1).Int, names...)
	}
	if !v.AtLeast(4, "20190315") {
		var gpus *float64
		var tpus *int
		params.Maybe(b, &p.InstanceMemory, params.To(params.Any, textOf), "instanceMemory")
		params.Maybe(b, &p.InstanceCores, params.ToInt.Int, "instanceCores")
		params.Maybe(b, &gpus, params.Float, "instanceGPUs")
		params.Maybe(b, &tpus, params.ToInt.Int, "instanceTPUs")
		p.InstanceGPUs, p.InstanceTPUs = gpus != nil, tpus != nil
		return
	}
	params.Maybe(b, &p.ScalingGroup, params.Str, "scaling_group", "scalingGroup")
	params.Opt(b, &p.Resources, json.RawMessage(`{}`), params.Else(json.RawMessage(`{}`), params.Raw), "resources")
	params.Opt(b, &p.ResourceOpts, nil, params.Else(nil, params.Dict), "resource_opts", "resourceOpts")
	if v.AtLeast(5, "20191215") {
		params.Opt(b, &p.MountMap, nil, params.Else(nil, params.Map(params.Str)), "mount_map", "mountMap")
		// The official client sends texts (FIX: they are converted).
		params.Opt(b, &p.PreopenPorts, nil, params.Else(nil, params.List(params.ToInt.Between(1024, 65535).Int)), "preopen_ports", "preopenPorts")
	}
	if v.AtLeast(6, "20200815") {
		params.Opt(b, &p.AgentList, nil, strings, "agent_list", "agentList")
	}
}

func textOf(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return ""
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

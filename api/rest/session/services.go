package session

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/actors/enqueue"
	"backend.ai/manager/api"
	"backend.ai/manager/api/coordinator"
	"backend.ai/manager/api/params"
	"backend.ai/manager/persistence/postgres/sessions"
)

// serviceParams are the parameters of start-service (spec/rest-session §5.1).
type serviceParams struct {
	login           *string
	app             string
	port            *int
	envs, arguments *string
}

func (p *serviceParams) bind(b *params.Binder) {
	params.Maybe(b, &p.login, params.Str, "login_session_token")
	params.Need(b, &p.app, params.Str, "app", "service")
	params.Maybe(b, &p.port, params.ToInt.Between(1024, 65535).Int, "port")
	params.Maybe(b, &p.envs, params.Str, "envs")
	params.Maybe(b, &p.arguments, params.Str, "arguments")
}

// startService starts an app and opens a way to it through the resource group's coordinator (spec/rest-session §5.1).
func (s *Resource) startService(r *api.Request) error {
	p, err := api.Params(r, (*serviceParams).bind)
	if err != nil {
		return err
	}
	opts, err := p.opts()
	if err != nil {
		return err
	}
	m, err := s.find(r, false)
	if err != nil {
		return err
	}
	info, err := sessions.Read(r.Context(), s.pool, m.ID)
	if err != nil {
		return err
	}
	address, err := coordinator.Address(r.Context(), s.pool, info.ScalingGroup)
	if err != nil {
		return err
	}
	status, err := coordinator.Ask(r.Context(), address)
	if err != nil {
		return err
	}
	host, port, err := servicePlace(info, r.Param("session"), p)
	if err != nil {
		return err
	}
	started, err := call(s, r, m.ID, callosum.StartService{KernelID: m.ID.String(), Service: p.app, Opts: opts}, callTimeout, false)
	if err != nil {
		return err
	}
	if started.Status == "failed" {
		return backendai.Errorf(backendai.InternalServerError, "Failed to launch the app service").WithData(started.Error)
	}
	var token struct {
		Token string `json:"token"`
	}
	way := map[string]any{"login_session_token": p.login, "kernel_host": host, "kernel_port": port}
	if err := coordinator.Converse(r.Context(), http.MethodPost, address+"/v2/conf", way, &token); err != nil {
		return err
	}
	if status.Advertised != "" {
		address = status.Advertised
	}
	return r.JSON(struct {
		Token   string `json:"token"`
		Address string `json:"wsproxy_addr"`
	}{token.Token, address})
}

// opts are what the agent starts the app with: only what was given, decoded.
func (p *serviceParams) opts() (callosum.Map, error) {
	opts := callosum.Map{}
	for _, o := range []struct {
		name string
		text *string
	}{{"arguments", p.arguments}, {"envs", p.envs}} {
		if o.text == nil {
			continue
		}
		var m callosum.Map
		if err := json.Unmarshal([]byte(*o.text), &m); err != nil {
			return nil, refuse(o.name + " must be the text of a JSON object.")
		}
		opts = append(opts, callosum.Entry{Key: o.name, Value: m})
	}
	return opts, nil
}

// servicePlace is where the app can be reached by the coordinator.
func servicePlace(info *sessions.Info, session string, p serviceParams) (host string, port int, err error) {
	var list []struct {
		Name           string `json:"name"`
		ContainerPorts []int  `json:"container_ports"`
		HostPorts      []int  `json:"host_ports"`
		HostPort       int    `json:"host_port"` // of old rows
	}
	if len(info.ServicePorts) > 0 {
		if err := json.Unmarshal(info.ServicePorts, &list); err != nil {
			return "", 0, backendai.Internal(err)
		}
	}
	for _, service := range list {
		if service.Name != p.app {
			continue
		}
		at := 0
		if p.port != nil {
			if at = slices.Index(service.ContainerPorts, *p.port); at < 0 {
				return "", 0, refuse(fmt.Sprintf("Service %s does not open the port number %d.", p.app, *p.port))
			}
		}
		port = service.HostPort
		if at < len(service.HostPorts) {
			port = service.HostPorts[at]
		}
		return kernelHost(info), port, nil
	}
	return "", 0, backendai.Errorf(backendai.AppNotFound, "%s:%s", session, p.app)
}

// kernelHost is the host that the agent told, or the agent's own.
func kernelHost(info *sessions.Info) string {
	if info.KernelHost != nil && *info.KernelHost != "" {
		return *info.KernelHost
	}
	if info.AgentAddr == nil {
		return ""
	}
	u, err := url.Parse(*info.AgentAddr)
	if err != nil {
		return ""
	}
	if host, _, err := net.SplitHostPort(u.Host); err == nil {
		return host
	}
	return u.Host
}

// shutdownService stops an app (spec/rest-session §5.2).
func (s *Resource) shutdownService(r *api.Request) error {
	name, err := api.Params(r, func(name *string, b *params.Binder) { params.Need(b, name, params.Str, "service_name") })
	if err != nil {
		return err
	}
	m, err := s.find(r, false)
	if err != nil {
		return err
	}
	if _, err := call(s, r, m.ID, callosum.ShutdownService{KernelID: m.ID.String(), Service: name}, callTimeout, false); err != nil {
		return err
	}
	return r.Send(http.StatusNoContent, "", nil)
}

// taskLogs is the log of a batch task, which lies in the requester's folder .logs (spec/rest-session §8.2).
func (s *Resource) taskLogs(r *api.Request) error {
	if _, err := api.Params(r, func(task *uuid.UUID, b *params.Binder) {
		params.Need(b, task, params.UUID, "session_name", "sessionName", "task_id", "taskId")
	}); err != nil {
		return err
	}
	who := r.Who()
	list, err := s.facts.Folders(r.Context(), nil, enqueue.Owner{UserID: who.User.ID, Domain: who.User.Domain}, who.User.Role)
	if err != nil {
		return err
	}
	for _, f := range list {
		if f.Name == ".logs" && f.Group == nil {
			return backendai.Errorf(backendai.QueryNotImplemented,
				"The folder .logs lies on %s, and only a storage-proxy can read it; this manager does not ask storage-proxies yet.", f.Host)
		}
	}
	return backendai.NoSuch("vfolder").WithData(map[string]any{"vfolder_name": ".logs"})
}

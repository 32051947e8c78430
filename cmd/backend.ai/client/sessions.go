package client

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"

	backendai "backend.ai/manager"
)

// NewSession is a request for a session (spec/rest-session §3.1). Only Image must be given.
type NewSession struct {
	Name      string
	Image     string
	Group     string
	Domain    string
	Resources map[string]string // slot → amount; empty: what the image needs
	Environ   map[string]string
	// ResourceOpts are the session's options: shmem, and what schedulers heed (priority, preemptible, time_limit).
	ResourceOpts map[string]string
	ScalingGroup string
	ClusterSize  int // 0: one container
	ClusterMode  string
	// WaitSeconds is how long to wait for the session to run; 0 = as long as it takes.
	WaitSeconds int
}

// Created is a session that was made or found.
type Created struct {
	ID      string `json:"sessionId"`
	Name    string `json:"sessionName"`
	Status  string `json:"status"`
	Created bool   `json:"created"`
}

// NewName draws a name for a session.
func NewName() string {
	return "run-" + strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(backendai.RandomToken(9)))
}

// Create asks for a session and waits until it runs, or for what WaitSeconds allows. A live session of the same name and image is
// taken as it is.
func (c *Client) Create(ctx context.Context, n NewSession) (made Created, err error) {
	err = c.request(ctx, "POST", "/session", nil, n.body(), &made)
	return made, err
}

func (n NewSession) body() map[string]any {
	config := map[string]any{"resources": n.Resources, "environ": n.Environ, "mounts": []string{}}
	if n.Resources == nil {
		config["resources"] = map[string]string{}
	}
	if n.Environ == nil {
		config["environ"] = map[string]string{}
	}
	if n.ScalingGroup != "" {
		config["scaling_group"] = n.ScalingGroup
	}
	if len(n.ResourceOpts) > 0 {
		config["resource_opts"] = n.ResourceOpts
	}
	body := map[string]any{"clientSessionToken": n.Name, "image": n.Image, "config": config, "maxWaitSeconds": n.WaitSeconds, "enqueueOnly": false, "reuseIfExists": true}
	if n.Group != "" {
		body["group_name"] = n.Group
	}
	if n.Domain != "" {
		body["domain_name"] = n.Domain
	}
	if n.ClusterSize > 0 {
		body["cluster_size"] = n.ClusterSize
	}
	if n.ClusterMode != "" {
		body["cluster_mode"] = n.ClusterMode
	}
	return body
}

// Info is what the API tells of one session: its reason when it failed, above all.
func (c *Client) Info(ctx context.Context, session string) (info struct {
	Status     string          `json:"status"`
	StatusInfo string          `json:"statusInfo"`
	StatusData json.RawMessage `json:"statusData"`
}, err error) {
	err = c.request(ctx, "GET", at(session, ""), nil, nil, &info)
	return info, err
}

func at(session, rest string) string { return "/session/" + url.PathEscape(session) + rest }

// Destroy ends a session and returns what is known of its use.
func (c *Client) Destroy(ctx context.Context, session string, forced bool) (stats json.RawMessage, err error) {
	query := url.Values{}
	if forced {
		query.Set("forced", "true")
	}
	var answer struct {
		Stats json.RawMessage `json:"stats"`
	}
	err = c.request(ctx, "DELETE", at(session, ""), query, nil, &answer)
	return answer.Stats, err
}

// Interrupt sends the session's code what ^C would.
func (c *Client) Interrupt(ctx context.Context, session string) error {
	return c.request(ctx, "POST", at(session, "/interrupt"), nil, nil, nil)
}

// ContainerLog is all that the session's main kernel has written.
func (c *Client) ContainerLog(ctx context.Context, session string) (string, error) {
	var answer struct {
		Result struct {
			Logs string `json:"logs"`
		} `json:"result"`
	}
	err := c.request(ctx, "GET", at(session, "/logs"), nil, nil, &answer)
	return answer.Result.Logs, err
}

// Session is one line of a list.
type Session struct {
	ID         string  `json:"session_id"`
	Name       string  `json:"name"`
	Image      string  `json:"image"`
	Type       string  `json:"type"`
	Status     string  `json:"status"`
	StatusInfo *string `json:"status_info"`
	AccessKey  string  `json:"access_key"`
	CreatedAt  *string `json:"created_at"`
}

// LiveStatuses are those of sessions that have not ended.
var LiveStatuses = []backendai.KernelStatus{
	backendai.Pending, backendai.Scheduled, backendai.Preparing, backendai.Pulling, backendai.Running, backendai.Restarting,
	backendai.Terminating, backendai.Resizing, backendai.Suspended, backendai.Failed,
}

// page is how many sessions one query asks for.
const page = 100

// List reads sessions, the newest first: those of the client's own keypair, or with everybody (administrators only) of all. Without
// statuses, sessions in any.
func (c *Client) List(ctx context.Context, everybody bool, statuses []backendai.KernelStatus) ([]Session, error) {
	const query = `query($limit:Int!, $offset:Int!, $ak:String, $status:String) {
  compute_session_list(limit:$limit, offset:$offset, access_key:$ak, status:$status, order:"-created_at") {
    items { session_id name image type status status_info access_key created_at }
    total_count
  }
}`
	variables := map[string]any{"limit": page}
	if !everybody {
		variables["ak"] = string(c.access)
	}
	if len(statuses) > 0 {
		names := make([]string, len(statuses))
		for i, s := range statuses {
			names[i] = string(s)
		}
		variables["status"] = strings.Join(names, ",")
	}
	var list []Session
	for {
		variables["offset"] = len(list)
		var data struct {
			List struct {
				Items []Session `json:"items"`
				Total int       `json:"total_count"`
			} `json:"compute_session_list"`
		}
		if err := c.graphQL(ctx, query, variables, &data); err != nil {
			return nil, err
		}
		list = append(list, data.List.Items...)
		if len(data.List.Items) == 0 || len(list) >= data.List.Total {
			return list, nil
		}
	}
}

// graphQL asks /admin/gql, whose answers are 200 even when they are errors.
func (c *Client) graphQL(ctx context.Context, query string, variables map[string]any, into any) error {
	var answer struct {
		Data   json.RawMessage `json:"data"`
		Errors []struct {
			Message string `json:"message"`
		} `json:"errors"`
	}
	if err := c.request(ctx, "POST", "/admin/gql", nil, map[string]any{"query": query, "variables": variables}, &answer); err != nil {
		return err
	}
	if len(answer.Errors) > 0 {
		texts := make([]string, len(answer.Errors))
		for i, e := range answer.Errors {
			texts[i] = e.Message
		}
		return backendai.Errorf(backendai.GraphQLError, "%s", strings.Join(texts, "; "))
	}
	return json.Unmarshal(answer.Data, into)
}

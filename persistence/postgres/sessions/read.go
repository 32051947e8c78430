package sessions

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/postgres"
)

// Info is what the API shows of a session: its main kernel's row.
type Info struct {
	ID            uuid.UUID
	Name          string
	AccessKey     string
	DomainName    string
	GroupID       uuid.UUID
	UserUUID      uuid.UUID
	ScalingGroup  *string
	Agent         *string
	AgentAddr     *string
	Image         string
	Architecture  string
	Registry      string
	Tag           *string
	ContainerID   *string
	OccupiedSlots backendai.ResourceSlots
	Environ       []string // nil for NULL
	KernelHost    *string
	ServicePorts  json.RawMessage
	Status        backendai.KernelStatus
	StatusInfo    *string
	StatusData    json.RawMessage
	CreatedAt     time.Time
	TerminatedAt  *time.Time
	NumQueries    int64
	LastStat      json.RawMessage
}

// byID is the main row of a session: it has the session's id (spec/database §8.1).
const byID = `id = $1 AND session_id = id`

// Read reads a session by its id. Error: SessionNotFound.
func Read(ctx context.Context, db Querier, id uuid.UUID) (*Info, error) {
	i := &Info{ID: id}
	var status string
	err := db.QueryRow(ctx, `SELECT coalesce(session_name, ''), coalesce(access_key, ''), domain_name, group_id, user_uuid, scaling_group, agent, agent_addr,
 coalesce(image, ''), coalesce(architecture, ''), coalesce(registry, ''), tag, container_id, occupied_slots, environ, kernel_host, service_ports,
 status::text, status_info, status_data, coalesce(created_at, 'epoch'), terminated_at, coalesce(num_queries, 0), last_stat
 FROM public.kernels WHERE `+byID, id).Scan(
		&i.Name, &i.AccessKey, &i.DomainName, &i.GroupID, &i.UserUUID, &i.ScalingGroup, &i.Agent, &i.AgentAddr,
		&i.Image, &i.Architecture, &i.Registry, &i.Tag, &i.ContainerID, &i.OccupiedSlots, &i.Environ, &i.KernelHost, &i.ServicePorts,
		&status, &i.StatusInfo, &i.StatusData, &i.CreatedAt, &i.TerminatedAt, &i.NumQueries, &i.LastStat)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, backendai.NewError(backendai.SessionNotFound)
	case err != nil:
		return nil, postgres.AsError(err)
	}
	i.Status, err = backendai.ParseKernelStatus(status)
	return i, err
}

// ContainerLog reads the log that a dead session's main container has left; nil if there is none.
func ContainerLog(ctx context.Context, db Querier, id uuid.UUID) (log []byte, err error) {
	err = db.QueryRow(ctx, `SELECT container_log FROM public.kernels WHERE `+byID, id).Scan(&log)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return log, postgres.AsError(err)
}

// Active counts the sessions that occupy agents (spec/rest-core §7.7).
func Active(ctx context.Context, db Querier) (n int, err error) {
	err = db.QueryRow(ctx, `SELECT count(*) FROM public.kernels WHERE cluster_role = 'main' AND status = ANY($1::kernelstatus[])`,
		backendai.AgentResourceOccupying.List()).Scan(&n)
	return n, postgres.AsError(err)
}

package session

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/api"
	"backend.ai/manager/api/params"
	"backend.ai/manager/persistence/postgres/sessions"
)

// match tells what a reference leads to, dead sessions included (spec/rest-session §4.1).
func (s *Resource) match(r *api.Request) error {
	p, err := api.Params(r, func(id *string, b *params.Binder) { params.Need(b, id, params.Str, "id") })
	if err != nil {
		return err
	}
	list, err := sessions.Find(r.Context(), s.pool, p, string(r.Who().Keypair.AccessKey), true)
	if err != nil {
		return err
	}
	type match struct {
		ID     string `json:"id"`
		Name   string `json:"name"`
		Status string `json:"status"`
	}
	matches := make([]match, len(list))
	for i, m := range list {
		matches[i] = match{m.ID.String(), m.Name, string(m.Status)}
	}
	return r.JSON(struct {
		Matches []match `json:"matches"`
	}{matches})
}

// info is what GET /session/{s} shows, in the original's order (spec/rest-session §4.2). Some values are texts as Python shows
// them: clients print them.
type info struct {
	DomainName         string          `json:"domainName"`
	GroupID            string          `json:"groupId"`
	UserID             string          `json:"userId"`
	Lang               string          `json:"lang"`
	Image              string          `json:"image"`
	Architecture       string          `json:"architecture"`
	Registry           string          `json:"registry"`
	Tag                *string         `json:"tag"`
	ContainerID        string          `json:"containerId"`
	OccupiedSlots      string          `json:"occupiedSlots"`
	OccupiedShares     string          `json:"occupiedShares"`
	Environ            string          `json:"environ"`
	Status             string          `json:"status"`
	StatusInfo         string          `json:"statusInfo"`
	StatusData         json.RawMessage `json:"statusData"`
	Age                int64           `json:"age"`
	CreationTime       string          `json:"creationTime"`
	TerminationTime    *string         `json:"terminationTime"`
	NumQueriesExecuted int64           `json:"numQueriesExecuted"`
	LastStat           json.RawMessage `json:"lastStat"`
}

func (s *Resource) info(r *api.Request) error {
	m, err := s.find(r, false)
	if err != nil {
		return err
	}
	row, err := sessions.Read(r.Context(), s.pool, m.ID)
	if err != nil {
		return err
	}
	i := info{
		DomainName: row.DomainName, GroupID: row.GroupID.String(), UserID: row.UserUUID.String(),
		Lang: row.Image, Image: row.Image, Architecture: row.Architecture, Registry: row.Registry, Tag: row.Tag,
		ContainerID: textOrNone(row.ContainerID), OccupiedSlots: slotsRepr(row.OccupiedSlots), OccupiedShares: "{}",
		Environ: environRepr(row.Environ), Status: string(row.Status), StatusInfo: textOrNone(row.StatusInfo), StatusData: orNull(row.StatusData),
		Age: time.Since(row.CreatedAt).Milliseconds(), CreationTime: datetimeText(row.CreatedAt),
		NumQueriesExecuted: row.NumQueries, LastStat: orNull(row.LastStat),
	}
	if row.TerminatedAt != nil {
		t := datetimeText(*row.TerminatedAt)
		i.TerminationTime = &t
	}
	return r.JSON(i)
}

func orNull(doc json.RawMessage) json.RawMessage {
	if len(doc) == 0 {
		return json.RawMessage("null")
	}
	return doc
}

func textOrNone(s *string) string {
	if s == nil {
		return "None"
	}
	return *s
}

func slotsRepr(slots backendai.ResourceSlots) string {
	var parts []string
	for name, amount := range slots.All() {
		parts = append(parts, fmt.Sprintf("%s: Decimal(%s)", backendai.Repr(string(name)), backendai.Repr(amount.String())))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

func environRepr(environ []string) string {
	if environ == nil {
		return "None"
	}
	parts := make([]string, len(environ))
	for i, e := range environ {
		parts[i] = backendai.Repr(e)
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// datetimeText is how Python shows a time: microseconds only if there are any.
func datetimeText(t time.Time) string {
	t = t.UTC()
	if t.Nanosecond()/1000 == 0 {
		return t.Format("2006-01-02 15:04:05+00:00")
	}
	return t.Format("2006-01-02 15:04:05.000000+00:00")
}

// restart restarts every kernel of a running session (spec/rest-session §4.3).
func (s *Resource) restart(r *api.Request) error {
	m, err := s.find(r, false)
	if err != nil {
		return err
	}
	_, err = s.ask(r.Context(), m.ID, restartTimeout, func(to protocol.ReplyTo) any { return &protocol.Restart{Now: time.Now(), Reply: to} })
	if err != nil {
		return err
	}
	return r.Send(http.StatusNoContent, "", nil)
}

// destroy ends a session (spec/rest-session §4.4).
func (s *Resource) destroy(r *api.Request) error {
	type destroyParams struct {
		forced bool
		owner  *string
	}
	p, err := api.Params(r, func(p *destroyParams, b *params.Binder) {
		params.Opt(b, &p.forced, false, params.ToBool, "forced")
		params.Maybe(b, &p.owner, params.Str, "owner_access_key")
	})
	if err != nil {
		return err
	}
	owner, err := s.ownerOf(r, p.owner)
	if err != nil {
		return err
	}
	m, err := sessions.One(r.Context(), s.pool, r.Param("session"), owner, false)
	if err != nil {
		return err
	}
	v, err := s.ask(r.Context(), m.ID, destroyTimeout, func(to protocol.ReplyTo) any {
		return &protocol.Destroy{Forced: p.forced, Now: time.Now(), Reply: to}
	})
	destroyed, _ := v.(*protocol.Destroyed)
	if errors.Is(err, backendai.SessionNotFound) {
		// It was alive a moment ago: someone else has been quicker, or this request has been carried out by a node that died before it
		// could say so. Either way the session has ended, as was asked.
		row, readErr := sessions.Read(r.Context(), s.pool, m.ID)
		if readErr != nil {
			return readErr
		}
		destroyed, err = &protocol.Destroyed{Stats: row.LastStat}, nil
	}
	if err != nil {
		return err
	}
	stats := map[string]json.RawMessage{}
	if destroyed != nil && len(destroyed.Stats) > 0 && json.Unmarshal(destroyed.Stats, &stats) == nil && len(stats) > 0 {
		stats["version"] = json.RawMessage("2")
	}
	stats["status"] = json.RawMessage(`"terminated"`)
	return r.JSON(struct {
		Stats map[string]json.RawMessage `json:"stats"`
	}{stats})
}

// ownerOf is owner for handlers whose parameters may come in the body as well.
func (s *Resource) ownerOf(r *api.Request, key *string) (string, error) {
	if key == nil {
		o, err := s.owner(r)
		return string(o.AccessKey), err
	}
	k := backendai.AccessKey(*key)
	o, err := api.OwnerScope(r.Context(), s.owners, r.Who(), &k)
	return string(o.AccessKey), err
}

// rename gives a running session another name (spec/rest-session §4.5).
func (s *Resource) rename(r *api.Request) error {
	type renameParams struct {
		name  string
		owner *string
	}
	p, err := api.Params(r, func(p *renameParams, b *params.Binder) {
		params.Need(b, &p.name, sessionName, "name", "clientSessionToken")
		params.Maybe(b, &p.owner, params.Str, "owner_access_key")
	})
	if err != nil {
		return err
	}
	owner, err := s.ownerOf(r, p.owner)
	if err != nil {
		return err
	}
	m, err := sessions.One(r.Context(), s.pool, r.Param("session"), owner, true)
	if err != nil {
		return err
	}
	if m.Status != backendai.Running {
		return backendai.Errorf(backendai.InvalidAPIParameters, "Can't change name of not running session")
	}
	if _, err = s.ask(r.Context(), m.ID, callTimeout, func(to protocol.ReplyTo) any { return &protocol.Rename{Name: p.name, Reply: to} }); err != nil {
		return err
	}
	return r.Send(http.StatusNoContent, "", nil)
}

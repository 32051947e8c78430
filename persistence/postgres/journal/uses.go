package journal

import (
	"encoding/json"

	"github.com/jackc/pgx/v5"
)

const upsertUses = `INSERT INTO backendai_actors.past_uses (scaling_group, access_key, slot_seconds, at)
SELECT scaling_group, access_key, slot_seconds, at FROM json_to_recordset($1::json) AS r(scaling_group text, access_key text, slot_seconds jsonb, at timestamptz)
ON CONFLICT (scaling_group, access_key) DO UPDATE SET slot_seconds = excluded.slot_seconds, at = excluded.at`

// queueUses writes what owners have used; of several values of a batch the last counts.
func queueUses(b *pgx.Batch, batch []*Entry, refusals map[*Entry]error) error {
	type key struct{ group, owner string }
	type row struct {
		ScalingGroup string `json:"scaling_group"`
		AccessKey    string `json:"access_key"`
		SlotSeconds  any    `json:"slot_seconds"`
		At           any    `json:"at"`
	}
	at := make(map[key]int)
	var rows []row
	for _, e := range batch {
		if refusals[e] != nil {
			continue
		}
		for _, u := range e.Uses {
			r := row{u.ScalingGroup, u.AccessKey, u.SlotSeconds, u.At}
			k := key{u.ScalingGroup, u.AccessKey}
			if i, ok := at[k]; ok {
				rows[i] = r
				continue
			}
			at[k] = len(rows)
			rows = append(rows, r)
		}
	}
	if len(rows) == 0 {
		return nil
	}
	doc, err := json.Marshal(rows)
	if err != nil {
		return err
	}
	b.Queue(upsertUses, string(doc))
	return nil
}

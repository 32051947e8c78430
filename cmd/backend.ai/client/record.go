package client

import (
	"context"
	"io"
	"net/url"
)

// SchedulerRecord copies the record of a scaling group's scheduler, JSON lines, to a writer. For superadmins only.
func (c *Client) SchedulerRecord(ctx context.Context, group string, to io.Writer) error {
	resp, err := c.send(ctx, "GET", "/inspect/schedulers/"+url.PathEscape(group)+"/record", nil, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(to, resp.Body); err != nil {
		return c.brokenOff(err)
	}
	return nil
}

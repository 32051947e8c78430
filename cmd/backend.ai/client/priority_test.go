package client

import "testing"

func TestPriority(t *testing.T) {
	_, f := serve(t, func(call string) (int, string) { return 204, "" })
	code, out, errs := command(t, "", "priority", "one", "--", "-5")
	if code != 0 || out != "one has priority -5 now.\n" || f.calls[0] != `POST /session/one/priority {"priority":-5}` {
		t.Error(code, out, errs, f.calls)
	}
	if code, _, errs := command(t, "", "priority", "one", "high"); code != 2 || errs == "" {
		t.Error(code, errs)
	}
}

package params_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	backendai "backend.ai/manager"
	"backend.ai/manager/api/params"
)

// sample uses every kind of field once.
type sample struct {
	Name    string
	Size    int
	Tag     *string
	Type    string
	Reuse   bool
	Strict  bool
	Count   *int64
	Mounts  []string
	Environ map[string]string
	Config  nested
	Group   params.IDOrName
	ID      *uuid.UUID
	Perm    string
	URL     string
	Mem     string
	Filter  map[string]any
	Target  any
	Extra   params.Values
	loose   bool
}

type nested struct {
	Ports []int
	Scale *string
}

func (n *nested) bind(b *params.Binder) {
	params.Opt(b, &n.Ports, nil, params.List(params.Int.Between(1024, 65535).Int), "preopen_ports", "preopenPorts")
	params.Maybe(b, &n.Scale, params.Str, "scaling_group", "scalingGroup")
}

func (s *sample) bind(b *params.Binder) {
	params.Need(b, &s.Name, params.Text(backendai.ValidSessionName, "does not match pattern"), "name", "clientSessionToken")
	params.Opt(b, &s.Size, 1, params.ToInt.AtLeast(1).Int, "cluster_size", "clusterSize")
	params.Maybe(b, &s.Tag, params.Max(params.Str, 5), "tag")
	params.Opt(b, &s.Type, "interactive", params.Enum("interactive", "batch"), "type", "sessionType")
	params.Opt(b, &s.Reuse, true, params.ToBool, "reuseIfExists")
	params.Opt(b, &s.Strict, false, params.Bool, "strict")
	params.Maybe(b, &s.Count, params.Int.AtMost(9).Int64, "count")
	params.Opt(b, &s.Mounts, nil, params.Else(nil, params.ListOf(1, params.Str)), "mounts")
	params.Opt(b, &s.Environ, nil, params.Map(params.StrOrBlank), "environ")
	params.Opt(b, &s.Config, nested{}, params.Object((*nested).bind), "config")
	params.Opt(b, &s.Group, params.IDOrName{}, params.UUIDOrStr, "group")
	params.Maybe(b, &s.ID, params.UUID, "id")
	params.Opt(b, &s.Perm, "", params.Match(regexp.MustCompile(`^[0-7]{3}`), "^[0-7]{3}$"), "permission")
	params.Opt(b, &s.URL, "", params.URL, "callback_url", "callbackUrl")
	params.Opt(b, &s.Mem, "", params.To(params.BinarySize, backendai.Decimal.String), "mem")
	params.Opt(b, &s.Filter, nil, params.JSON(params.Dict), "filter")
	params.Opt(b, &s.Target, nil, params.Or(
		params.To(params.List(params.UUID), func(v []uuid.UUID) any { return v }),
		params.To(params.List(params.Str), func(v []string) any { return v })), "dependencies")
	if b.Sent("loose") {
		params.Opt(b, &s.loose, false, params.ToBool, "loose")
		b.AllowExtra()
		s.Extra = b.Extra()
	}
}

// The transcripts: "bind [type=…] [query=…]" with a body gives the values, or the complaints.
func TestTranscripts(t *testing.T) {
	datadriven.RunTest(t, "testdata/bind", func(t *testing.T, d *datadriven.TestData) string {
		var query, contentType string
		d.MaybeScanArgs(t, "query", &query)
		d.MaybeScanArgs(t, "type", &contentType)
		body := strings.TrimSuffix(d.Input, "\n")
		if d.HasArg("latin1") {
			body = string([]byte{'{', '"', 'n', 'a', 'm', 'e', '"', ':', '"', 'c', 'a', 'f', 0xe9, '"', '}'})
		}
		values, err := params.Read(strings.ReplaceAll(contentType, "+", "; "), []byte(body), query)
		if err != nil {
			return show(err)
		}
		s, err := params.Bind(values, (*sample).bind)
		if err != nil {
			return show(err)
		}
		out, _ := json.Marshal(s)
		var all map[string]any
		_ = json.Unmarshal(out, &all)
		for k, v := range all {
			if v == nil || v == "" || v == false {
				delete(all, k)
			}
		}
		out, _ = json.MarshalIndent(all, "", " ")
		return string(out) + "\n"
	})
}

func show(err error) string {
	body, perr := backendai.AsError(err).Problem()
	if perr != nil {
		return perr.Error()
	}
	var problem map[string]any
	_ = json.Unmarshal(body, &problem)
	out, _ := json.MarshalIndent(map[string]any{"msg": problem["msg"], "data": problem["data"], "status": backendai.AsError(err).HTTPStatus()}, "", " ")
	return string(out) + "\n"
}

// The texts of spec/rest-core §4 for toBool, exactly.
func TestToBool(t *testing.T) {
	for raw, want := range map[any]string{
		"t": "true", " TRUE ": "true", "Y": "true", "yes": "true", "on": "true", json.Number("1"): "true", json.Number("1.0"): "true", true: "true",
		"false": "false", "N": "false", "no": "false", "off": "false", json.Number("0"): "false", "None": "false", nil: "false", false: "false", "0.0": "false",
		"f": "value can't be converted to Bool", "": "value can't be converted to Bool", json.Number("2"): "value can't be converted to Bool",
	} {
		v, c := params.ToBool(raw)
		got := fmt.Sprint(v)
		if c != nil {
			got = fmt.Sprint(c)
		}
		if got != want {
			t.Errorf("%#v: %s, want %s", raw, got, want)
		}
	}
}

// A query string says the same as the JSON object of its texts.
func TestQueryEqualsBody(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := params.Values{}
		var parts []string
		for k, v := range rapid.MapOf(rapid.StringMatching(`[a-z_]{1,6}`), rapid.String()).Draw(t, "values") {
			want[k] = v
			escaped := ""
			for _, c := range []byte(v) {
				escaped += fmt.Sprintf("%%%02x", c)
			}
			parts = append(parts, k+"="+escaped, k+"=second")
		}
		got, err := params.Read("text/plain", nil, strings.Join(parts, "&"))
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Fatal(err, diff)
		}
	})
}

// Integers survive every way of writing them, and nothing else is one.
func TestIntegers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64().Draw(t, "n")
		for _, raw := range []any{json.Number(fmt.Sprint(n)), fmt.Sprint(n), fmt.Sprintf(" %d ", n), json.Number(fmt.Sprintf("%d.0", n))} {
			if got, c := params.Int.Int64(raw); c != nil || got != n {
				t.Fatalf("%v: %d %v", raw, got, c)
			}
		}
		if _, c := params.Int.Int64(json.Number(fmt.Sprintf("%d.5", n))); c == nil {
			t.Fatal("a fraction is accepted")
		}
	})
}

// No body crashes the reader.
func TestReadAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		body := rapid.SliceOf(rapid.Byte()).Draw(t, "body")
		kind := rapid.SampledFrom([]string{"", "application/json", "text/yaml", "text/yaml; charset=latin-1", "a/b; charset=nonsense", ";;;"}).Draw(t, "type")
		values, err := params.Read(kind, body, rapid.String().Draw(t, "query"))
		if err != nil && backendai.CodeOf(err) != backendai.InvalidAPIParameters {
			t.Fatal(err)
		}
		_, _ = params.Bind(values, (*sample).bind)
	})
}

func BenchmarkBind(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		values, err := params.Read("application/json", []byte(`{"name": "session", "cluster_size": 2, "tag": null, "config": {"preopen_ports": ["8080"]}}`), "")
		if err != nil {
			b.Fatal(err)
		}
		if _, err := params.Bind(values, (*sample).bind); err != nil {
			b.Fatal(err)
		}
	}
}

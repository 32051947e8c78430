package backendai

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseImageRef(t *testing.T) { // spec/config-cli-ops §5.1
	for _, c := range []struct {
		in                  string
		known               []string
		registry, name, tag string
	}{
		{"c", nil, "index.docker.io", "lablup/c", "latest"},
		{"lablup/kernel-python:3.6-ubuntu", nil, "index.docker.io", "lablup/kernel-python", "3.6-ubuntu"},
		{"myregistry.org/lua", nil, "index.docker.io", "myregistry.org/lua", "latest"},
		{"myregistry.org/lua:5.3-alpine", []string{"myregistry.org"}, "myregistry.org", "lua", "5.3-alpine"},
		{"myregistry.org:999/mybase/python:3.6-cuda9-ubuntu", []string{"myregistry.org:999"}, "myregistry.org:999", "mybase/python", "3.6-cuda9-ubuntu"},
		{"myregistry.org:999/mybase/python:3.6-cuda9-ubuntu", nil, "index.docker.io", "myregistry.org:999/mybase/python", "3.6-cuda9-ubuntu"},
		{"docker.io/python", []string{"docker.io"}, "docker.io", "lablup/python", "latest"},
		{"index.docker.io/python:3.6", nil, "index.docker.io", "lablup/python", "3.6"},
		{"127.0.0.1:5000/python:3.6-cuda9-ubuntu", nil, "127.0.0.1:5000", "python", "3.6-cuda9-ubuntu"},
		{"127.0.0.1/python", nil, "127.0.0.1", "python", "latest"},
		{"::1/python:3.6", nil, "index.docker.io", "::1/python", "3.6"},
		{"[::1]:5000/python", nil, "[::1]:5000", "python", "latest"},
		{"[::1]/python", nil, "[::1]", "python", "latest"},
		{"lablup/python:3.6", AnyRegistry, "lablup", "python", "3.6"},
		{"cr.backend.ai/stable/python:3.9-ubuntu20.04", AnyRegistry, "cr.backend.ai", "stable/python", "3.9-ubuntu20.04"},
		{"x:3.9-20220101", nil, "index.docker.io", "lablup/x", "3.9-20220101"}, // refused by the original
	} {
		r, err := ParseImageRef(c.in, c.known, "amd64")
		want := ImageRef{c.registry, c.name, c.tag, "x86_64"}
		if err != nil || r != want {
			t.Errorf("%s %v: got %+v, %v", c.in, c.known, r, err)
		}
		if got := c.registry + "/" + c.name + ":" + c.tag; r.Canonical() != got || r.Short() != c.name+":"+c.tag {
			t.Errorf("canonical of %s: %s", c.in, r)
		}
	}
	for _, c := range []struct{ in, message string }{
		{"myhost:5000/python", "Invalid image tag"}, {"a:!", "Invalid image tag"}, {"127.0.0.1:5000/a:-x-", "Invalid image tag"}, {"a:", "Invalid image tag"},
		{"https://a/b", "ImageRef should not contain the protocol scheme."}, {"//a/b", "ImageRef should not contain the protocol scheme."},
		{":tag", "Empty image repository/name"}, {"", "Empty image repository/name"}, {"127.0.0.1:5000/", "Empty image repository/name"},
	} {
		r, err := ParseImageRef(c.in, nil, "")
		if !errors.Is(err, InvalidArgument) || *AsError(err).Message != c.message {
			t.Errorf("%s: got %+v, %v", c.in, r, err)
		}
	}
}

func mustImage(t *testing.T, text string) ImageRef {
	t.Helper()
	r, err := ParseImageRef(text, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestPlatformTags(t *testing.T) {
	tags, err := mustImage(t, "x:3.6-cuda9.1rc1-ubuntu").PlatformTags()
	if d := cmp.Diff([]PlatformTag{{"cuda", "9.1rc1"}, {"ubuntu", ""}}, tags); err != nil || d != "" {
		t.Error(err, d)
	}
	for _, in := range []string{"x:3.9-20220101", "x:1.0-rc.1", "x:3.9-py_37", "x:3.9-cuda9-cuda10"} {
		if tags, err := mustImage(t, in).PlatformTags(); !errors.Is(err, InvalidArgument) {
			t.Errorf("%s: got %v, %v", in, tags, err)
		}
	}
}

func TestCompareImages(t *testing.T) {
	ascending := []string{"x:3.6-cuda9-ubuntu18.04", "x:3.6-cuda10-ubuntu18.04", "x:3.10-cuda9", "x:3.11-cuda9", "x:3.11"}
	for i := range ascending {
		for j := range ascending {
			order, ok := CompareImages(mustImage(t, ascending[i]), mustImage(t, ascending[j]))
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if !ok || order != want {
				t.Errorf("%s, %s: %d %v", ascending[i], ascending[j], order, ok)
			}
		}
	}
	if _, ok := CompareImages(mustImage(t, "x:1"), mustImage(t, "y:1")); ok {
		t.Error("images of different names have no order")
	}
}

func TestCompareVersions(t *testing.T) {
	ascending := []string{"jammy", "latest", "0.9", "1.0.dev1", "1.0a1", "1.0b2.dev1", "1.0b2", "1.0rc1", "1.0", "1.0+local", "1.0.post1", "1.0.1", "1.9", "1.10", "20.04", "1!0.1"}
	for i, a := range ascending {
		for j, b := range ascending {
			if got := CompareVersions(a, b); (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("%s, %s: %d", a, b, got)
			}
		}
	}
	for _, p := range [][2]string{{"3", "3.0.0"}, {"v1.0", "1.0"}, {"1.0alpha1", "1.0a1"}, {"1.0-rc1", "1.0c1"}} {
		if CompareVersions(p[0], p[1]) != 0 {
			t.Errorf("%v must be equal", p)
		}
	}
}

func TestArchitectures(t *testing.T) {
	for in, want := range map[string][2]string{"arm64": {"aarch64", "arm64"}, "aarch64": {"aarch64", "arm64"}, "amd64": {"x86_64", "amd64"}, "x64": {"x86_64", "amd64"},
		"x86_64": {"x86_64", "amd64"}, "x32": {"x86", "386"}, "i686": {"x86", "386"}, "x86": {"x86", "386"}, "386": {"386", "386"}, "riscv64": {"riscv64", "riscv64"}} {
		if NormalizeArchitecture(in) != want[0] || DockerArchitecture(in) != want[1] {
			t.Errorf("%s: %s %s", in, NormalizeArchitecture(in), DockerArchitecture(in))
		}
	}
}

func TestServicePorts(t *testing.T) {
	for in, want := range map[string][]ServicePort{
		"": nil,
		"ipython:pty:3000,jupyter:http:8080,tensorboard:http:6006": {{"jupyter", ServiceHTTP, []int{8080}}, {"tensorboard", ServiceHTTP, []int{6006}}},
		"a-b:tcp:[3000,3001],c:preopen:5000":                       {{"a-b", ServiceTCP, []int{3000, 3001}}, {"c", ServicePreopen, []int{5000}}},
		"a:tcp:1025,b:tcp:65534":                                   {{"a", ServiceTCP, []int{1025}}, {"b", ServiceTCP, []int{65534}}},
	} {
		got, err := ParseServicePorts(in)
		if d := cmp.Diff(want, got); err != nil || d != "" {
			t.Errorf("%s: %v %s", in, err, d)
		}
	}
	for _, in := range []string{"a:ftp:3000", "a:tcp:3000,b:tcp:3000", "a:tcp:[3000,3000]", "a:tcp:1024", "a:tcp:65535", "a:tcp:2000", "a:tcp:2003", "a:tcp:2200",
		"a:tcp:7681", "a:tcp", "a b:tcp:3000", "a:tcp:3000 b", "a:tcp:[]", "a:tcp:99999999999999999999999", "a:tcp:0", ","} {
		if got, err := ParseServicePorts(in); !errors.Is(err, InvalidAPIParameters) {
			t.Errorf("%s: got %v, %v; want an error", in, got, err)
		}
	}
}

func TestImageLabels(t *testing.T) {
	l := ImageLabels{LabelKernelspec: "1", LabelMinPrefix + "cpu": "1", LabelMinPrefix + "mem": "256m", LabelFeatures: "batch query  tty", LabelAccelerators: "cuda, rocm",
		LabelServicePorts: "jupyter:http:8080"}
	if !l.IsKernel() || (ImageLabels{LabelKernelspec: "2"}).IsKernel() || (ImageLabels{}).IsKernel() {
		t.Error("kernelspec")
	}
	if !slices.Equal(l.Accelerators(), []string{"cuda", "rocm"}) || (ImageLabels{}).Accelerators() != nil || !l.HasFeature("query") || l.HasFeature(FeatureOperation) {
		t.Error("lists")
	}
	if n, err := l.PreferredShmem(); err != nil || n.String() != "64m" {
		t.Error(n, err)
	}
	if l.RuntimeType() != "python" || l.BaseDistro() != "ubuntu16.04" {
		t.Error("defaults")
	}
	r := l.MinResources()
	four := "4"
	r["cpu"] = SlotRange{Min: "1", Max: &four}
	r["unknown"] = SlotRange{Min: "bad"}
	low, high, err := r.Ranges(testKnown)
	if err != nil || low.String() != "cpu=1 mem=268435456 cuda.device=0 cuda.shares=0" || high.String() != "cpu=4 mem=Infinity cuda.device=Infinity cuda.shares=Infinity" {
		t.Error(low, high, err)
	}
	if _, _, err := (ImageResources{"mem": {Min: "x"}}).Ranges(testKnown); err == nil {
		t.Error("a malformed minimum must be refused")
	}
}

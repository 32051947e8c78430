package enqueue

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	backendai "backend.ai/manager"
)

func TestResolveMounts(t *testing.T) {
	project, other := uuid.MustParse("00000000-0000-0000-0000-000000000001"), uuid.MustParse("00000000-0000-0000-0000-000000000002")
	folder := func(name, path string, group *uuid.UUID) Folder {
		f := Folder{ID: "id of " + path, Name: name, Host: "local:volume1", Permission: "rw", Group: group}
		if path != "" {
			f.UnmanagedPath = &path
		}
		return f
	}
	plain, second := folder("plain", "/mnt/plain", nil), folder("second", "/mnt/second", nil)
	for name, c := range map[string]struct {
		mounts  []string
		alias   map[string]string
		folders []Folder
		want    []string // host path → kernel path, in order
		code    backendai.Code
		msg     string
	}{
		"nothing":              {},
		"none at all":          {mounts: []string{"nope"}, code: backendai.VFolderNotFound, msg: "There is no accessible vfolders at all."},
		"not this one":         {mounts: []string{"nope"}, folders: []Folder{folder(".x", "/mnt/x", nil)}, code: backendai.VFolderNotFound, msg: "VFolder nope is not found or accessible."},
		"unmanaged":            {mounts: []string{"plain"}, folders: []Folder{plain}, want: []string{"/mnt/plain → /home/work/plain"}},
		"sub-path":             {mounts: []string{"plain/a/../b"}, folders: []Folder{plain}, want: []string{"/mnt/plain/b → /home/work/plain"}},
		"sub-path that leaves": {mounts: []string{"plain/../x"}, folders: []Folder{plain}, code: backendai.InvalidAPIParameters, msg: "The subpath '../x' should designate a subdirectory of the vfolder 'plain'."},
		"sub-path that leaves for a namesake": {mounts: []string{"plain/../plainer"}, folders: []Folder{plain}, code: backendai.InvalidAPIParameters,
			msg: "The subpath '../plainer' should designate a subdirectory of the vfolder 'plain'."},
		"absolute":          {mounts: []string{"/x"}, folders: []Folder{plain}, code: backendai.InvalidAPIParameters, msg: "The subpath 'x' should designate a subdirectory of the vfolder ''."},
		"absolute sub-path": {mounts: []string{"plain//etc"}, folders: []Folder{plain}, code: backendai.InvalidAPIParameters, msg: "The subpath '/etc' should designate a subdirectory of the vfolder 'plain'."},
		"dots":              {mounts: []string{".."}, folders: []Folder{plain}, code: backendai.InvalidAPIParameters, msg: "The subpath '' should designate a subdirectory of the vfolder '..'."},
		"sources overlap":   {mounts: []string{"plain", "plain/a"}, folders: []Folder{plain}, code: backendai.InvalidAPIParameters, msg: "VFolder source path 'plain' overlaps with 'plain/a'"},
		"alias":             {mounts: []string{"plain"}, alias: map[string]string{"plain": "in"}, folders: []Folder{plain}, want: []string{"/mnt/plain → /home/work/in"}},
		"absolute alias":    {mounts: []string{"plain"}, alias: map[string]string{"plain": "/in/"}, folders: []Folder{plain}, want: []string{"/mnt/plain → /in"}},
		"targets overlap": {mounts: []string{"plain", "second"}, alias: map[string]string{"second": "plain/deep"}, folders: []Folder{plain, second},
			code: backendai.InvalidAPIParameters, msg: "VFolder mount path /home/work/plain overlaps with /home/work/plain/deep"},
		"two parts of one folder in one place": {mounts: []string{"plain/a", "plain/b"}, folders: []Folder{plain},
			code: backendai.InvalidAPIParameters, msg: "VFolder mount path /home/work/plain overlaps with /home/work/plain"},
		"mounted by itself":         {mounts: []string{"plain"}, folders: []Folder{folder(".x", "/mnt/x", nil), plain}, want: []string{"/mnt/plain → /home/work/plain", "/mnt/x → /home/work/.x"}},
		"both":                      {mounts: []string{".x"}, folders: []Folder{folder(".x", "/mnt/x", nil)}, want: []string{"/mnt/x → /home/work/.x"}},
		"of another project":        {mounts: []string{"plain"}, folders: []Folder{folder("plain", "/mnt/theirs", &other)}},
		"of the project":            {mounts: []string{"plain"}, folders: []Folder{plain, folder("plain", "/mnt/ours", &project)}, want: []string{"/mnt/ours → /home/work/plain"}},
		"own before other projects": {mounts: []string{"plain"}, folders: []Folder{plain, folder("plain", "/mnt/theirs", &other)}, want: []string{"/mnt/plain → /home/work/plain"}},
		"managed": {mounts: []string{"data"}, folders: []Folder{folder("data", "", nil)}, code: backendai.QueryNotImplemented,
			msg: "The folder data lies on local:volume1, and only a storage-proxy can tell where; this manager does not ask storage-proxies yet."},
		"managed, by itself": {folders: []Folder{folder(".x", "", nil)}, code: backendai.QueryNotImplemented,
			msg: "The folder .x lies on local:volume1, and only a storage-proxy can tell where; this manager does not ask storage-proxies yet."},
	} {
		t.Run(name, func(t *testing.T) {
			r := &Request{Config: Config{Mounts: c.mounts, MountMap: c.alias}}
			mounts, err := resolveMounts(r, &Facts{Group: &Group{ID: project}, Folders: c.folders})
			if c.code != "" {
				var e *backendai.Error
				if !errors.As(err, &e) || e.Code != c.code || e.Message == nil || *e.Message != c.msg {
					t.Fatalf("error %v, want %s: %s", err, c.code, c.msg)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, m := range mounts {
				got = append(got, m.HostPath+" → "+m.KernelPath)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

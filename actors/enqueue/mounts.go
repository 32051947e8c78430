package enqueue

import (
	"path"
	"strings"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
)

// Folder is a virtual folder that the owner may use, of a name the request has or of one that is mounted by itself.
type Folder struct {
	ID         string
	Name       string
	Host       string
	Permission string
	// Group is the project that the folder belongs to; nil for a user's.
	Group *uuid.UUID
	// UnmanagedPath is where the folder lies on every agent when no storage-proxy looks after it.
	UnmanagedPath *string
}

const workDir = "/home/work"

// automatic folders are mounted into every session (spec/vfolder-storage §7 step 6).
func automatic(name string) bool { return strings.HasPrefix(name, ".") }

// FolderNames are the names of the folders that a request wants, without their sub-paths.
func FolderNames(r *Request) []string {
	names := make([]string, len(r.Config.Mounts))
	for i, key := range r.Config.Mounts {
		names[i], _, _ = strings.Cut(key, "/")
	}
	return names
}

// wanted is one folder of a request, in two parts.
type wanted struct{ key, name, subpath string }

// wantedFolders splits what the request names into folder and sub-path, and refuses overlaps (spec/vfolder-storage §7 steps 1, 2).
func wantedFolders(r *Request) ([]wanted, error) {
	list := make([]wanted, 0, len(r.Config.Mounts))
	for _, key := range r.Config.Mounts {
		name, sub, _ := strings.Cut(key, "/")
		clean := path.Clean(key)
		if name == "" || name == "." || name == ".." || path.IsAbs(sub) || !within(clean, name) {
			return nil, refuse("The subpath '%s' should designate a subdirectory of the vfolder '%s'.", sub, name)
		}
		w := wanted{key: key, name: name, subpath: "."}
		if clean != name {
			w.subpath = strings.TrimPrefix(clean, name+"/")
		}
		for _, o := range list {
			if o.key == key {
				continue
			}
			if other := path.Clean(o.key); within(clean, other) || within(other, clean) {
				return nil, refuse("VFolder source path '%s' overlaps with '%s'", other, clean)
			}
		}
		list = append(list, w)
	}
	return list, nil
}

// within tells whether p is dir or lies below it.
func within(p, dir string) bool {
	return p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}

// resolveMounts finds the folders of the request among those that the owner may use, and adds those that are mounted by themselves
// (spec/vfolder-storage §7). Folders of other projects are left out. Errors: InvalidAPIParameters, VFolderNotFound, and
// QueryNotImplemented for a folder whose place only a storage-proxy knows: a session is never started without a folder it was to have.
func resolveMounts(r *Request, f *Facts) ([]Mount, error) {
	list, err := wantedFolders(r)
	if err != nil {
		return nil, err
	}
	if len(f.Folders) == 0 {
		if len(list) > 0 {
			return nil, backendai.Errorf(backendai.VFolderNotFound, "There is no accessible vfolders at all.")
		}
		return []Mount{}, nil
	}
	foreign := func(folder Folder) bool { return folder.Group != nil && *folder.Group != f.Group.ID }
	byName := make(map[string]Folder, len(f.Folders))
	asked := make(map[string]bool, len(list))
	for _, w := range list {
		asked[w.name] = true
	}
	for _, folder := range f.Folders {
		before, there := byName[folder.Name]
		if there && foreign(folder) && !foreign(before) {
			continue // one's own and the project's come first (FIX)
		}
		byName[folder.Name] = folder
		if automatic(folder.Name) && !asked[folder.Name] {
			asked[folder.Name] = true
			list = append(list, wanted{key: folder.Name, name: folder.Name, subpath: "."})
		}
	}
	mounts := make([]Mount, 0, len(list))
	for _, w := range list {
		folder, there := byName[w.name]
		if !there {
			return nil, backendai.Errorf(backendai.VFolderNotFound, "VFolder %s is not found or accessible.", w.name)
		}
		if foreign(folder) {
			continue
		}
		m, err := place(r, w, folder)
		if err != nil {
			return nil, err
		}
		for _, o := range mounts {
			if within(m.KernelPath, o.KernelPath) || within(o.KernelPath, m.KernelPath) {
				return nil, refuse("VFolder mount path %s overlaps with %s", o.KernelPath, m.KernelPath)
			}
		}
		mounts = append(mounts, m)
	}
	return mounts, nil
}

// place says where a folder lies on the agent and where in the container.
func place(r *Request, w wanted, folder Folder) (Mount, error) {
	if folder.UnmanagedPath == nil || *folder.UnmanagedPath == "" || folder.Name == ".local" && folder.Group != nil {
		return Mount{}, backendai.Errorf(backendai.QueryNotImplemented,
			"The folder %s lies on %s, and only a storage-proxy can tell where; this manager does not ask storage-proxies yet.", folder.Name, folder.Host)
	}
	m := Mount{Name: folder.Name, VFolderID: folder.ID, Subpath: w.subpath, HostPath: path.Join(*folder.UnmanagedPath, w.subpath), Perm: folder.Permission}
	m.KernelPath = path.Join(workDir, folder.Name)
	if alias, there := r.Config.MountMap[w.key]; there {
		if m.KernelPath = path.Clean(alias); !path.IsAbs(alias) {
			m.KernelPath = path.Join(workDir, alias)
		}
	}
	return m, nil
}

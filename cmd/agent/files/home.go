package files

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"syscall"

	"backend.ai/manager/actors/agent/callosum"
)

// inside is the home folder as kernels and users know it.
const inside = "/home/work"

// MaxArchive bounds a download, in bytes of the archive.
const MaxArchive = 1 << 20

// Home is a kernel's home folder.
type Home struct {
	Dir      string // on this machine
	UID, GID int    // whom new files belong to
	Folders  []Folder
}

// Folder is a virtual folder in the home folder, or elsewhere in the kernel.
type Folder struct {
	Target   string // inside
	Source   string // on this machine
	ReadOnly bool
}

// place finds the folder of this machine that holds what a name means, and the rest of the name; verb is for the message.
func (h Home) place(name, verb string) (dir, rest string, readOnly bool, err error) {
	full := name
	if !path.IsAbs(name) {
		full = path.Join(inside, name)
	}
	full = path.Clean(full)
	if full != inside && !strings.HasPrefix(full, inside+"/") {
		return "", "", false, callosum.Exception("PermissionError", "You cannot "+verb+" files outside "+inside)
	}
	base := inside
	dir = h.Dir
	for _, f := range h.Folders {
		target := path.Clean(f.Target)
		if (full == target || strings.HasPrefix(full, target+"/")) && len(target) > len(base) {
			base, dir, readOnly = target, f.Source, f.ReadOnly
		}
	}
	rest = strings.TrimPrefix(strings.TrimPrefix(full, base), "/")
	if rest == "" {
		rest = "."
	}
	return dir, rest, readOnly, nil
}

// Upload writes a file and makes the folders it is in.
func (h Home) Upload(name string, data []byte) error {
	dir, rest, readOnly, err := h.place(strings.TrimLeft(name, "/\\"), "upload")
	if err != nil {
		return err
	}
	if readOnly {
		return callosum.Exception("PermissionError", "The folder is read-only: "+name)
	}
	return h.write(dir, rest, data, 0o644)
}

// Put writes a file of the agent's own making, such as a dotfile. name is relative to the home folder.
func (h Home) Put(name string, data []byte, mode fs.FileMode) error {
	return h.write(h.Dir, name, data, mode)
}

func (h Home) write(dir, name string, data []byte, mode fs.FileMode) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return exception(err, name)
	}
	defer root.Close()
	if err := h.makeParents(root, path.Dir(name)); err != nil {
		return exception(err, name)
	}
	file, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_NONBLOCK, mode) // a FIFO must not block
	if err != nil {
		return exception(err, name)
	}
	_, err = file.Write(data)
	err = errors.Join(err, file.Chmod(mode))
	if os.Getuid() == 0 {
		err = errors.Join(err, file.Chown(h.UID, h.GID))
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return exception(err, name)
	}
	return nil
}

// makeParents makes folders that belong to the kernel's account.
func (h Home) makeParents(root *os.Root, name string) error {
	if name == "." || name == "/" {
		return nil
	}
	if _, err := root.Stat(name); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := h.makeParents(root, path.Dir(name)); err != nil {
		return err
	}
	if err := root.Mkdir(name, 0o755); err != nil {
		return err
	}
	if os.Getuid() == 0 {
		return root.Chown(name, h.UID, h.GID)
	}
	return nil
}

// exception is what an error of the file system means to the user.
func exception(err error, name string) error {
	full := path.Join(inside, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return callosum.Exception("FileNotFoundError", "Could not found the file: "+full) // the original's words
	case errors.Is(err, fs.ErrPermission), strings.Contains(err.Error(), "escapes"):
		return callosum.Exception("PermissionError", "You cannot access "+full)
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return callosum.Exception("OSError", full+": "+err.Error())
}

// Download gives a tar archive of a file or folder.
func (h Home) Download(name string) ([]byte, error) {
	dir, rest, _, err := h.place(name, "download")
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, exception(err, name)
	}
	defer root.Close()
	full := path.Clean(path.Join(inside, name))
	if path.IsAbs(name) {
		full = path.Clean(name)
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	err = archive(w, &out, root, rest, path.Base(full))
	if err == nil {
		err = w.Close()
	}
	var remote *callosum.RemoteError
	if errors.As(err, &remote) {
		return nil, remote
	}
	if err != nil {
		return nil, exception(err, rest)
	}
	if out.Len() > MaxArchive {
		return nil, tooLarge()
	}
	return out.Bytes(), nil
}

func tooLarge() error {
	return callosum.Exception("ValueError", "too large archive file exceeding 1 MiB")
}

// archive writes one entry and what is below it.
func archive(w *tar.Writer, out *bytes.Buffer, root *os.Root, name, as string) error {
	info, err := root.Lstat(name)
	if err != nil {
		return err
	}
	link := ""
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		if link, err = root.Readlink(name); err != nil {
			return err
		}
	case info.IsDir(), info.Mode().IsRegular():
	default:
		return nil // devices, sockets, pipes
	}
	head, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	head.Name, head.Uname, head.Gname, head.Uid, head.Gid = as, "work", "work", 0, 0
	if info.IsDir() {
		head.Name += "/"
	}
	if head.Size+int64(out.Len()) > MaxArchive {
		return tooLarge()
	}
	if err := w.WriteHeader(head); err != nil {
		return err
	}
	if info.Mode().IsRegular() {
		file, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		defer file.Close()
		_, err = io.CopyN(w, file, head.Size)
		return err
	}
	if !info.IsDir() {
		return nil
	}
	entries, err := fs.ReadDir(root.FS(), name)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := archive(w, out, root, path.Join(name, e.Name()), path.Join(as, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// List lists a folder as the original does: the text of a JSON array, or a message why not.
func (h Home) List(name string) (callosum.FileList, error) {
	list := callosum.FileList{AbsPath: name}
	dir, rest, _, err := h.place(name, "list")
	if err != nil {
		return list, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		list.Errors = err.Error() + "\n"
		return list, nil
	}
	defer root.Close()
	entries, err := fs.ReadDir(root.FS(), rest)
	if err != nil {
		list.Errors = err.Error() + "\n"
		return list, nil
	}
	var items []string
	for _, e := range entries {
		info, err := root.Lstat(path.Join(rest, e.Name()))
		if err != nil {
			continue // it has just gone
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			continue
		}
		filename, err := json.Marshal(strings.ToValidUTF8(e.Name(), "\uFFFD"))
		if err != nil {
			continue
		}
		items = append(items, fmt.Sprintf(`{"mode": "%s", "size": %d, "ctime": %s, "mtime": %s, "atime": %s, "filename": %s}`,
			modeText(st.Mode), st.Size, seconds(st.Ctim), seconds(st.Mtim), seconds(st.Atim), filename))
	}
	list.Files = "[" + strings.Join(items, ", ") + "]\n"
	return list, nil
}

func seconds(t syscall.Timespec) string {
	return strconv.FormatFloat(float64(t.Sec)+float64(t.Nsec)/1e9, 'f', 7, 64)
}

// modeText writes a mode as ls does.
func modeText(mode uint32) string {
	kinds := map[uint32]byte{syscall.S_IFDIR: 'd', syscall.S_IFLNK: 'l', syscall.S_IFREG: '-', syscall.S_IFBLK: 'b', syscall.S_IFCHR: 'c', syscall.S_IFIFO: 'p', syscall.S_IFSOCK: 's'}
	b := []byte{'?', 'r', 'w', 'x', 'r', 'w', 'x', 'r', 'w', 'x'}
	if k, ok := kinds[mode&syscall.S_IFMT]; ok {
		b[0] = k
	}
	for i := range 9 {
		if mode&(1<<(8-i)) == 0 {
			b[i+1] = '-'
		}
	}
	special := func(bit uint32, at int, with, without byte) {
		if mode&bit != 0 {
			if b[at] == 'x' {
				b[at] = with
			} else {
				b[at] = without
			}
		}
	}
	special(syscall.S_ISUID, 3, 's', 'S')
	special(syscall.S_ISGID, 6, 's', 'S')
	special(syscall.S_ISVTX, 9, 't', 'T')
	return string(b)
}

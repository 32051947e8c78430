package session

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/http"
	"net/url"
	"path"
	"strings"

	"golang.org/x/sync/errgroup"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/api"
	"backend.ai/manager/api/params"
	"backend.ai/manager/persistence/postgres/sessions"
)

const (
	maxUploads   = 20
	maxUpload    = 1 << 20 // bytes of one file; that many are too many
	maxDownloads = 5
	filesAtOnce  = 4
)

// upload puts files into the session's work directory (spec/rest-session §7.1).
func (s *Resource) upload(r *api.Request) error {
	m, err := s.find(r, false)
	if err != nil {
		return err
	}
	mediaType, attrs, err := mime.ParseMediaType(r.Header("Content-Type"))
	if err != nil || !strings.HasPrefix(mediaType, "multipart/") || attrs["boundary"] == "" {
		return refuse("The body must be multipart/form-data, a part for each file.")
	}
	reader := multipart.NewReader(r.BodyStream(), attrs["boundary"])
	var group errgroup.Group
	group.SetLimit(filesAtOnce)
	for count := 0; ; count++ {
		part, err := reader.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return refuse("Malformed body")
		}
		if count >= maxUploads {
			return refuse("Too many files")
		}
		name, err := uploadName(part)
		if err != nil {
			return err
		}
		data, err := partData(part)
		if err != nil {
			return err
		}
		group.Go(func() error {
			_, err := call(s, r, m.ID, callosum.UploadFile{KernelID: m.ID.String(), Filename: name, Data: data}, fileTimeout, false)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return r.Send(http.StatusNoContent, "", nil)
}

// uploadName is the file's path relative to the work directory. The official client percent-encodes it, slashes included
// (spec/rest-session §7.1); agents do not confine paths, so that is done here.
func uploadName(part *multipart.Part) (string, error) {
	_, attrs, err := mime.ParseMediaType(part.Header.Get("Content-Disposition"))
	name := attrs["filename"]
	if err != nil || name == "" {
		return "", refuse("A part has no filename.")
	}
	if decoded, err := url.PathUnescape(name); err == nil {
		name = decoded
	}
	clean := path.Clean(name)
	if path.IsAbs(name) || strings.ContainsRune(name, 0) || clean == "." || clean == ".." || strings.HasPrefix(clean, "../") {
		return "", refuse(fmt.Sprintf("The file name %s must be relative and stay inside the work directory.", backendai.Repr(name)))
	}
	return clean, nil
}

func partData(part *multipart.Part) ([]byte, error) {
	var source io.Reader = part
	switch strings.ToLower(part.Header.Get("Content-Transfer-Encoding")) {
	case "base64":
		source = base64.NewDecoder(base64.StdEncoding, source)
	case "quoted-printable":
		source = quotedprintable.NewReader(source)
	}
	var err error
	switch strings.ToLower(part.Header.Get("Content-Encoding")) {
	case "gzip":
		source, err = gzip.NewReader(source)
	case "deflate":
		source, err = zlib.NewReader(source)
	}
	if err != nil {
		return nil, refuse("Malformed body")
	}
	data, err := io.ReadAll(io.LimitReader(source, maxUpload))
	switch {
	case err != nil:
		return nil, refuse("Malformed body")
	case len(data) >= maxUpload:
		return nil, refuse("Too large file")
	}
	return data, nil
}

// download answers with a tar archive for each file, as parts of one body (spec/rest-session §7.2).
func (s *Resource) download(r *api.Request) error {
	type downloadParams struct {
		files []string
		owner *string
	}
	p, err := api.Params(r, func(p *downloadParams, b *params.Binder) {
		one := params.To(params.Str, func(f string) []string { return []string{f} })
		params.Need(b, &p.files, params.Or(params.List(params.Str), one), "files")
		params.Maybe(b, &p.owner, params.Str, "owner_access_key")
	})
	if err != nil {
		return err
	}
	if query, err := url.ParseQuery(r.Query); err == nil && len(query["files"]) > len(p.files) {
		p.files = query["files"]
	}
	switch {
	case len(p.files) > maxDownloads:
		return refuse("Too many files")
	case len(p.files) == 0:
		return refuse("No files are named.")
	}
	m, err := s.findFor(r, p.owner)
	if err != nil {
		return err
	}
	archives := make([][]byte, len(p.files))
	var group errgroup.Group
	group.SetLimit(filesAtOnce)
	for i, file := range p.files {
		group.Go(func() (err error) {
			archives[i], err = s.fetch(r, m, file)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	var boundary [16]byte
	_, _ = rand.Read(boundary[:])
	mark := hex.EncodeToString(boundary[:])
	var body bytes.Buffer
	for _, a := range archives {
		fmt.Fprintf(&body, "--%s\r\nContent-Type: application/octet-stream\r\nContent-Encoding: identity\r\nContent-Length: %d\r\n\r\n", mark, len(a))
		body.Write(a)
		body.WriteString("\r\n")
	}
	fmt.Fprintf(&body, "--%s--\r\n", mark)
	return r.Send(http.StatusOK, "multipart/mixed; boundary="+mark, body.Bytes())
}

func (s *Resource) findFor(r *api.Request, owner *string) (sessions.Match, error) {
	key, err := s.ownerOf(r, owner)
	if err != nil {
		return sessions.Match{}, err
	}
	return sessions.One(r.Context(), s.pool, r.Param("session"), key, false)
}

// fetch asks the agent for a file's archive. A file that is not there, is too large or lies outside is the client's mistake.
func (s *Resource) fetch(r *api.Request, m sessions.Match, file string) ([]byte, error) {
	return call(s, r, m.ID, callosum.DownloadFile{KernelID: m.ID.String(), Path: file}, fileTimeout, false)
}

// downloadSingle answers with one file's tar archive (spec/rest-session §7.3).
func (s *Resource) downloadSingle(r *api.Request) error {
	type singleParams struct {
		file  string
		owner *string
	}
	p, err := api.Params(r, func(p *singleParams, b *params.Binder) {
		params.Need(b, &p.file, params.Str, "file")
		params.Maybe(b, &p.owner, params.Str, "owner_access_key")
	})
	if err != nil {
		return err
	}
	m, err := s.findFor(r, p.owner)
	if err != nil {
		return err
	}
	archive, err := s.fetch(r, m, p.file)
	if err != nil {
		return err
	}
	return r.Send(http.StatusOK, "application/octet-stream", archive)
}

// files lists a directory (spec/rest-session §7.4).
func (s *Resource) files(r *api.Request) error {
	m, err := s.find(r, false)
	if err != nil {
		return err
	}
	body := struct {
		Path string `json:"path"`
	}{"."}
	if err := jsonBody(r, &body); err != nil {
		return err
	}
	list, err := call(s, r, m.ID, callosum.ListFiles{KernelID: m.ID.String(), Path: body.Path}, callTimeout, false)
	if err != nil {
		return err
	}
	return r.JSON(list)
}

// storedLog is the log that a dead session has left; nil if there is none.
func (s *Resource) storedLog(r *api.Request, m sessions.Match) (*string, error) {
	if !m.Status.IsDead() {
		return nil, nil
	}
	log, err := sessions.ContainerLog(r.Context(), s.pool, m.ID)
	if err != nil || log == nil {
		return nil, err
	}
	text := strings.ToValidUTF8(string(log), "\uFFFD")
	return &text, nil
}

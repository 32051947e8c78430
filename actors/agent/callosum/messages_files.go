package callosum

// UploadFile writes a file below the kernel's home folder (spec §5.15).
type UploadFile struct {
	returnsNothing
	KernelID string
	Filename string // relative; an agent must confine it
	Data     []byte
}

// Call gives the arguments by position.
func (r UploadFile) Call() Call {
	return NewCall(MethodUploadFile, r.KernelID, r.Filename, orEmptyList(r.Data))
}

// Bind reads the arguments.
func (r *UploadFile) Bind(a Arguments) error {
	return a.Bind(Required("kernel_id", &r.KernelID), Required("filename", &r.Filename), Required("filedata", &r.Data))
}

// DownloadFile asks for a file or folder as a tar archive of at most 1 MiB (spec §5.16).
type DownloadFile struct {
	KernelID string
	Path     string
}

// Call gives the arguments by position.
func (r DownloadFile) Call() Call { return NewCall(MethodDownloadFile, r.KernelID, r.Path) }

// Bind reads the arguments.
func (r *DownloadFile) Bind(a Arguments) error {
	return a.Bind(Required("kernel_id", &r.KernelID), Required("filepath", &r.Path))
}

// Result gives the archive.
func (r DownloadFile) Result(payload []byte) ([]byte, error) {
	return decodeResult[[]byte](MethodDownloadFile, payload)
}

// ListFiles lists a folder of the kernel (spec §5.17).
type ListFiles struct {
	KernelID string
	Path     string
}

// FileList is a listing: Files is the text of a JSON array, empty on failure with the reason in Errors.
type FileList struct {
	Files   string `json:"files"`
	Errors  string `json:"errors"`
	AbsPath string `json:"abspath"` // echoes Path
}

// Call gives the arguments by position.
func (r ListFiles) Call() Call { return NewCall(MethodListFiles, r.KernelID, r.Path) }

// Bind reads the arguments.
func (r *ListFiles) Bind(a Arguments) error {
	return a.Bind(Required("kernel_id", &r.KernelID), Required("path", &r.Path))
}

// Result decodes the listing.
func (r ListFiles) Result(payload []byte) (FileList, error) {
	return decodeResult[FileList](MethodListFiles, payload)
}

package host

import (
	"io"
	"os"
	"sync"
)

// Log is everything a kernel wrote, the latest part of it: when the file would grow beyond its limit, the older half goes.
type Log struct {
	mu   sync.Mutex
	file *os.File
	size int64
	max  int64
}

// NewLog goes on writing at the end of a file opened for reading and writing. max is in bytes.
func NewLog(file *os.File, max int64) (*Log, error) {
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	return &Log{file: file, size: size, max: max}, nil
}

// WriteString appends text. A failing disk loses the log, not the kernel.
func (l *Log) WriteString(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if int64(len(text)) > l.max/2 {
		text = text[int64(len(text))-l.max/2:]
	}
	if l.size+int64(len(text)) > l.max {
		keep := make([]byte, l.max/2-int64(len(text))/2)
		n, _ := l.file.ReadAt(keep, l.size-int64(len(keep)))
		if l.file.Truncate(0) != nil {
			return
		}
		l.size = 0
		m, _ := l.file.WriteAt(keep[:n], 0)
		l.size = int64(m)
	}
	n, _ := l.file.WriteAt([]byte(text), l.size)
	l.size += int64(n)
}

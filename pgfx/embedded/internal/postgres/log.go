package postgres

import (
	"os"
	"path/filepath"
	"sync"
)

const (
	// logLimit is the size in bytes at which the log file is renamed, so both files together take at most twice as much.
	logLimit = 8 << 20
	// logTail is the number of bytes kept in memory for error messages.
	logTail = 8 << 10
)

// Log receives the server's output. Writes never fail, because a server whose output isn't read blocks.
type Log struct {
	path  string
	limit int64

	mu   sync.Mutex
	file *os.File
	size int64
	tail []byte
}

// OpenLog creates or truncates the log file. At 8 MB it is renamed to path + ".1" and a new file is started.
func OpenLog(path string) (*Log, error) {
	file, err := os.OpenFile(filepath.Clean(path), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	return &Log{path: path, limit: logLimit, file: file}, nil
}

// Write implements [io.Writer]. It never returns an error.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tail = append(l.tail, p...)
	if excess := len(l.tail) - logTail; excess > 0 {
		l.tail = append(l.tail[:0], l.tail[excess:]...)
	}
	if l.size+int64(len(p)) > l.limit {
		l.rotate()
	}
	if l.file != nil {
		// A full disk must not stop the server.
		n, _ := l.file.Write(p)
		l.size += int64(n)
	}
	return len(p), nil
}

func (l *Log) rotate() {
	if l.file != nil {
		_ = l.file.Close()
	}
	_ = os.Rename(l.path, l.path+".1")
	l.size = 0
	l.file, _ = os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
}

// Tail formats the last lines of the log as a suffix for an error.
func (l *Log) Tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return QuoteTail(string(l.tail))
}

// Close closes the log file. Later writes are discarded.
func (l *Log) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		_ = l.file.Close()
		l.file = nil
	}
}

package embedded

import (
	"os"
	"path/filepath"
	"sync"
)

const (
	// logLimit is the size in bytes at which the log is put aside as log.1, so that both take twice as much at most.
	logLimit = 8 << 20
	// logTail is how much of the log is kept in memory for errors.
	logTail = 8 << 10
)

// serverLog takes the server's output. It never fails and never blocks for long, since a server whose output nobody takes stops.
type serverLog struct {
	path  string
	limit int64

	mu   sync.Mutex
	file *os.File
	size int64
	tail []byte
}

func openLog(path string) (*serverLog, error) {
	file, err := os.OpenFile(filepath.Clean(path), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	return &serverLog{path: path, limit: logLimit, file: file}, nil
}

// Write implements [io.Writer].
func (l *serverLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tail = append(l.tail, p...)
	if over := len(l.tail) - logTail; over > 0 {
		l.tail = append(l.tail[:0], l.tail[over:]...)
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

func (l *serverLog) rotate() {
	if l.file != nil {
		_ = l.file.Close()
	}
	_ = os.Rename(l.path, l.path+".1")
	l.size = 0
	l.file, _ = os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
}

// last returns the last lines of the log, ready to be put behind an error.
func (l *serverLog) last() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return quoteTail(string(l.tail))
}

func (l *serverLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		_ = l.file.Close()
		l.file = nil
	}
}

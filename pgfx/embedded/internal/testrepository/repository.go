package testrepository

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Repository is an HTTP handler that serves archives and their checksums, and can fail. Its methods may be called concurrently.
type Repository struct {
	mu       sync.Mutex
	files    map[string][]byte
	requests []string
	faults   []Fault
}

// Fault changes the response to one request for an archive.
type Fault struct {
	// Cut is the number of bytes after which the connection breaks, or 0 for all bytes.
	Cut int
	// Held, if set, is closed when Cut bytes were sent. The connection stays open, without further data.
	Held chan<- struct{}
	// IgnoreRange serves the whole file even if a part is requested.
	IgnoreRange bool
	// Status, if set, is the status of the response.
	Status int
}

// Add adds an archive with its checksum.
func (r *Repository) Add(path string, archive []byte) {
	sum := sha256.Sum256(archive)
	r.Set(path, archive)
	r.Set(path+".sha256", []byte(hex.EncodeToString(sum[:])+"  archive\n"))
}

// Set sets the content of a file.
func (r *Repository) Set(path string, content []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.files == nil {
		r.files = make(map[string][]byte)
	}
	r.files[path] = content
}

// Fail sets the faults of the next requests for archives, one for each request.
func (r *Repository) Fail(faults ...Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = faults
}

// Requests returns the requests for archives, each as the path and the header Range.
func (r *Repository) Requests() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.requests...)
}

// ServeHTTP implements [http.Handler].
func (r *Repository) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	content, fault, ok := r.next(request)
	if !ok {
		http.NotFound(w, request)
		return
	}
	if fault.Status != 0 {
		w.WriteHeader(fault.Status)
		return
	}
	if fault.IgnoreRange {
		request.Header.Del("Range")
	}
	if fault.Cut > 0 {
		w = &cutWriter{ResponseWriter: w, left: fault.Cut, fault: fault, done: request.Context().Done()}
	}
	http.ServeContent(w, request, "archive", time.Time{}, bytes.NewReader(content))
}

func (r *Repository) next(request *http.Request) (content []byte, fault Fault, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	content, ok = r.files[request.URL.Path]
	if strings.HasSuffix(request.URL.Path, ".sha256") {
		return content, fault, ok
	}
	r.requests = append(r.requests, strings.TrimSpace(request.URL.Path+" "+request.Header.Get("Range")))
	if len(r.faults) > 0 {
		fault, r.faults = r.faults[0], r.faults[1:]
	}
	return content, fault, ok
}

// cutWriter breaks or holds the connection after some bytes.
type cutWriter struct {
	http.ResponseWriter

	left  int
	fault Fault
	done  <-chan struct{}
}

func (w *cutWriter) Write(data []byte) (int, error) {
	if len(data) < w.left {
		w.left -= len(data)
		return w.ResponseWriter.Write(data) //nolint:wrapcheck // an io.Writer
	}
	_, _ = w.ResponseWriter.Write(data[:w.left])
	_ = http.NewResponseController(w.ResponseWriter).Flush()
	if w.fault.Held != nil {
		close(w.fault.Held)
		<-w.done
	}
	panic(http.ErrAbortHandler)
}

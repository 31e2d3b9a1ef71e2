// Package testrecorder runs a function as if it were a test and records what it reports, to test helpers that take a
// testing.TB.
package testrecorder

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
)

// Recorder is a testing.TB that records errors and logs instead of reporting them. Methods that it does not override go to
// the TB that it was made with. The methods may be called concurrently.
type Recorder struct {
	testing.TB

	mu       sync.Mutex
	errors   []string
	logs     []string
	cleanups []func()
}

// New returns a recorder for a caller that ends the test itself, with [Recorder.RunCleanups].
func New(tb testing.TB) *Recorder {
	tb.Helper()
	return &Recorder{TB: tb}
}

// Run runs fn until it returns or calls a method such as Fatal, then runs its cleanups, and returns what was recorded.
func Run(tb testing.TB, fn func(tb testing.TB)) *Recorder {
	tb.Helper()
	r := New(tb)
	done := make(chan struct{})
	go func() { // Fatal calls runtime.Goexit
		defer close(done)
		defer r.RunCleanups()
		fn(r)
	}()
	<-done
	return r
}

// Errors is [Run] for callers that need only the errors.
func Errors(tb testing.TB, fn func(tb testing.TB)) []string {
	tb.Helper()
	return Run(tb, fn).Errors()
}

// RunCleanups runs the registered cleanups, the last one first.
func (r *Recorder) RunCleanups() {
	for len(r.cleanups) > 0 {
		last := r.cleanups[len(r.cleanups)-1]
		r.cleanups = r.cleanups[:len(r.cleanups)-1]
		last()
	}
}

// Errors returns the recorded messages of errors, fatal errors and skips.
func (r *Recorder) Errors() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.errors)
}

// Logs returns the recorded log messages.
func (r *Recorder) Logs() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.logs)
}

// Cleanup registers fn.
func (r *Recorder) Cleanup(fn func()) { r.cleanups = append(r.cleanups, fn) }

// Helper does nothing.
func (r *Recorder) Helper() {}

// Failed reports whether an error was recorded.
func (r *Recorder) Failed() bool { return len(r.Errors()) > 0 }

// Logf records a log message.
func (r *Recorder) Logf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.logs = append(r.logs, fmt.Sprintf(format, args...))
}

// Error records an error.
func (r *Recorder) Error(args ...any) { r.Errorf("%s", fmt.Sprint(args...)) }

// Errorf records an error.
func (r *Recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errors = append(r.errors, fmt.Sprintf(format, args...))
}

// Fatal records an error and ends the calling goroutine.
func (r *Recorder) Fatal(args ...any) { r.Fatalf("%s", fmt.Sprint(args...)) }

// Fatalf records an error and ends the calling goroutine.
func (r *Recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

// Skipf records a skip as an error and ends the calling goroutine.
func (r *Recorder) Skipf(format string, args ...any) { r.Fatalf("skipped: "+format, args...) }

package fxtest_test

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
)

// recorder is a test that is watched: what it reports is kept, and its cleanups run when end is called.
type recorder struct {
	testing.TB

	mu       sync.Mutex
	reports  []string
	logs     []string
	failed   bool
	cleanups []func()
}

// watch runs fn as a test of its own, to its end or its first Fatal, and returns what became of it. The cleanups run too.
func watch(tb testing.TB, fn func(tb testing.TB)) *recorder {
	tb.Helper()
	r := &recorder{TB: tb}
	done := make(chan struct{})
	go func() { // Fatal ends its goroutine
		defer close(done)
		defer func() {
			for len(r.cleanups) > 0 {
				last := r.cleanups[len(r.cleanups)-1]
				r.cleanups = r.cleanups[:len(r.cleanups)-1]
				last()
			}
		}()
		fn(r)
	}()
	<-done
	return r
}

func (r *recorder) Cleanup(fn func()) { r.cleanups = append(r.cleanups, fn) }
func (r *recorder) Helper()           {}
func (r *recorder) Failed() bool      { return r.failed }

func (r *recorder) Logf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.logs = append(r.logs, fmt.Sprintf(format, args...))
}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = true
	r.reports = append(r.reports, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

package txn

import (
	"context"
	"fmt"
	"sync"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// sessions are the closures that hold session locks or wait for them. Their connections are outside of the pool, which doesn't
// wait for them.
type sessions struct {
	mu   sync.Mutex
	open map[*context.CancelCauseFunc]struct{}
	shut bool
	idle chan struct{} // closed when the last one has left; nil while nobody waits
}

// enter notes a closure, whose ctx cancel ends, and returns what it must call at its end. The error is pgfx.ErrClosed after end.
func (s *sessions) enter(cancel context.CancelCauseFunc) (leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shut {
		return nil, pgfx.ErrClosed
	}
	if s.open == nil {
		s.open = make(map[*context.CancelCauseFunc]struct{})
	}
	s.open[&cancel] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.open, &cancel)
		if len(s.open) == 0 && s.idle != nil {
			close(s.idle)
			s.idle = nil
		}
	}, nil
}

// end ends the ctx of all closures and waits for them, until ctx ends. Nobody enters any more.
func (s *sessions) end(ctx context.Context) error {
	s.mu.Lock()
	s.shut = true
	for cancel := range s.open {
		(*cancel)(pgfx.ErrClosed)
	}
	if len(s.open) > 0 && s.idle == nil {
		s.idle = make(chan struct{})
	}
	n, idle := len(s.open), s.idle
	s.mu.Unlock()
	if n == 0 {
		return nil
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("txn: close: %d closures still hold session locks, or wait for them, although their contexts have ended: %w", n, context.Cause(ctx))
	}
}

package txn

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/internal/caller"
)

// Misuse says what happens when the pool is used with the context of a running transaction of the same database.
type PoolUseInTx uint8

const (
	// PoolUseInTxWarn logs a warning, once for each place in the program. It is the default.
	PoolUseInTxWarn PoolUseInTx = iota
	// PoolUseInTxError refuses the use with [ErrPoolInTransaction]. It is meant for tests and development.
	PoolUseInTxError
	// PoolUseInTxIgnore does nothing.
	PoolUseInTxIgnore
)

// ErrPoolInTransaction is what the pool's user gets when the manager has been made with [PoolUseInTxError].
var ErrPoolInTransaction = errors.New("txn: the pool is used with the context of a running transaction of the same database: " +
	"the statement would not be part of it, and would wait for ever when there is no second connection; " +
	"query through the manager, or take a context from Do with NotSupported or from Detach")

// WithPoolUseInTx sets what happens when the pool is used inside a transaction of the manager, until the manager is closed.
// Default: [PoolUseInTxWarn].
func WithPoolUseInTx(misuse PoolUseInTx) ManagerOption {
	return ManagerOption{apply: func(m *Manager) error {
		if misuse > PoolUseInTxIgnore {
			return fmt.Errorf("txn: WithPoolUseInTx(%d): use one of PoolUseInTxWarn, PoolUseInTxError, PoolUseInTxIgnore", misuse)
		}
		m.misuse = misuse
		return nil
	}}
}

// places are where misuse has been found.
type places struct {
	mu    sync.Mutex
	known map[string]struct{}
}

// mostPlaces bounds what is remembered, and with it what is logged.
const mostPlaces = 100

// isNew notes a place and reports whether it is a new one.
func (p *places) isNew(place string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.known[place]; ok || len(p.known) >= mostPlaces {
		return false
	}
	if p.known == nil {
		p.known = make(map[string]struct{})
	}
	p.known[place] = struct{}{}
	return true
}

// guard is asked before each acquire of the pool.
func (m *Manager) guard(ctx context.Context) error {
	s, ok := ctx.Value(m.key).(*scope)
	if !ok || s.t.m != m || s.over() {
		return nil
	}
	if m.misuse == PoolUseInTxError {
		return ErrPoolInTransaction
	}
	if place := callerOutside(); m.places.isNew(place) {
		m.logger.Warn("the pool is used with the context of a running transaction of the same database", zap.String("caller", place))
	}
	return nil
}

const callersLooked = 32

// callerOutside returns the place in the program that uses the pool.
func callerOutside() string {
	var pcs [callersLooked]uintptr
	frames := caller.Frames(pcs[:runtime.Callers(1, pcs[:])])
	if len(frames) == 0 {
		return "unknown"
	}
	return caller.Position(frames[0])
}

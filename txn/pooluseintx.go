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

// PoolUseInTx selects what happens if the pool is used with the context of a running transaction of the same database. Such a
// statement is not part of the transaction.
type PoolUseInTx uint8

const (
	// PoolUseInTxWarn logs a warning, once for each calling line of code. It is the default.
	PoolUseInTxWarn PoolUseInTx = iota
	// PoolUseInTxError makes the acquire fail with [ErrPoolInTransaction]. It is meant for tests and development.
	PoolUseInTxError
	// PoolUseInTxIgnore does nothing.
	PoolUseInTxIgnore
)

// ErrPoolInTransaction is returned to the caller of the pool if the manager was created with [PoolUseInTxError].
var ErrPoolInTransaction = errors.New("txn: the pool is used with the context of a running transaction of the same database: " +
	"the statement would not be part of the transaction, and would wait without end if there is no second connection; " +
	"run it through the manager, or use a context from Do with NotSupported or from Detach")

// WithPoolUseInTx sets what happens if the pool is used inside a transaction of the manager, until the manager is closed.
// Default: [PoolUseInTxWarn].
func WithPoolUseInTx(use PoolUseInTx) ManagerOption {
	return ManagerOption{apply: func(m *Manager) error {
		if use > PoolUseInTxIgnore {
			return fmt.Errorf("txn: WithPoolUseInTx(%d): use one of PoolUseInTxWarn, PoolUseInTxError, PoolUseInTxIgnore", use)
		}
		m.poolUse = use
		return nil
	}}
}

// callers is a set of lines of code. Its zero value is empty.
type callers struct {
	mu    sync.Mutex
	known map[string]struct{}
}

// maxCallers limits the memory of a set, and the number of warnings.
const maxCallers = 100

// add adds a line and reports whether it is new. A full set reports false.
func (c *callers) add(line string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.known[line]; ok || len(c.known) >= maxCallers {
		return false
	}
	if c.known == nil {
		c.known = make(map[string]struct{})
	}
	c.known[line] = struct{}{}
	return true
}

// guardAcquire is called before each acquire of the pool.
func (m *Manager) guardAcquire(ctx context.Context) error {
	s, ok := ctx.Value(m.key).(*scope)
	if !ok {
		return m.checkContext(ctx)
	}
	if s.t.m != m || s.ended() || m.poolUse == PoolUseInTxIgnore {
		return nil
	}
	if m.poolUse == PoolUseInTxError {
		return ErrPoolInTransaction
	}
	if line := callingLine(); m.poolUsers.add(line) {
		m.logger.Warn("pool used with the context of a running transaction of the same database", zap.String("caller", line))
	}
	return nil
}

// maxFrames is the depth of the stack in which the caller is searched.
const maxFrames = 32

// callingLine returns the line of the application that uses the pool.
func callingLine() string {
	var pcs [maxFrames]uintptr
	frames := caller.Frames(pcs[:runtime.Callers(1, pcs[:])])
	if len(frames) == 0 {
		return "unknown"
	}
	return caller.Position(frames[0])
}

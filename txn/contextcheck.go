package txn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"sync"

	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/internal/logctx"
)

// ErrOuterContext is returned if a statement in the closure of a Do has another context than the closure's. The manager must have been
// created with WithContextCheck(PoolUseInTxError).
var ErrOuterContext = errors.New("txn: a closure of Do uses the pool with a context that doesn't carry its transaction: " +
	"the statement would not be part of the transaction; pass the context that the closure receives, or one from Detach if that is intended")

// WithContextCheck sets what happens if a closure of [Manager.Do] uses a context that doesn't carry the transaction, such as the
// context outside the closure. A statement with it, on the manager or the pool, would silently run outside the transaction.
//
// Default: [PoolUseInTxIgnore]. fxtest.New sets [PoolUseInTxError]. The check walks the stack of the goroutine, which takes tens of
// microseconds, for each transaction and for each acquire while a transaction is open.
//
// The check covers the goroutine in which the closure runs, and not those that it starts. Contexts from [Detach] and from a Do with
// [NotSupported] are accepted.
func WithContextCheck(use PoolUseInTx) ManagerOption {
	return ManagerOption{apply: func(m *Manager) error {
		if use > PoolUseInTxIgnore {
			return fmt.Errorf("txn: WithContextCheck(%d): use one of PoolUseInTxWarn, PoolUseInTxError, PoolUseInTxIgnore", use)
		}
		m.contextCheck.use = use
		return nil
	}}
}

// contextCheck finds closures that use a context without their transaction.
type contextCheck struct {
	use   PoolUseInTx
	users callers

	mu     sync.Mutex
	inside map[int64]int // closures that run in a goroutine, by its number
}

// enter records that a closure of a transaction runs in this goroutine until leave is called.
func (c *contextCheck) enter() (leave func()) {
	if c.use == PoolUseInTxIgnore {
		return func() {}
	}
	id := goroutineID()
	c.add(id, 1)
	return func() { c.add(id, -1) }
}

func (c *contextCheck) add(id int64, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inside == nil {
		c.inside = make(map[int64]int)
	}
	if c.inside[id] += n; c.inside[id] == 0 {
		delete(c.inside, id)
	}
}

// isInside reports whether a closure of a transaction runs in this goroutine.
func (c *contextCheck) isInside() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.inside) > 0 && c.inside[goroutineID()] > 0
}

// withoutTxKey is the context key of a context that hides a transaction on purpose.
type withoutTxKey struct{}

// checkContext is called before each acquire of the pool with a context that carries no transaction.
func (m *Manager) checkContext(ctx context.Context) error {
	c := &m.contextCheck
	if c.use == PoolUseInTxIgnore || ctx.Value(withoutTxKey{}) != nil || !c.isInside() {
		return nil
	}
	line := callingLine()
	if c.use == PoolUseInTxError {
		return fmt.Errorf("%w (%s)", ErrOuterContext, line)
	}
	if c.users.add(line) {
		m.logger.Warn("closure of a transaction uses a context that does not carry it", zap.String("caller", line), logctx.Field(ctx))
	}
	return nil
}

// goroutineID returns the number of this goroutine, which the first line of its stack contains: "goroutine 7 [running]:".
func goroutineID() int64 {
	var buf [64]byte
	line := bytes.TrimPrefix(buf[:runtime.Stack(buf[:], false)], []byte("goroutine "))
	number, _, _ := bytes.Cut(line, []byte(" "))
	id, _ := strconv.ParseInt(string(number), 10, 64)
	return id
}

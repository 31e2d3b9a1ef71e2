package txn

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// ErrLockLost is the cause of the context of a session lock's closure if the connection that held the lock was lost. Another
// process may hold the lock by then.
var ErrLockLost = errors.New("txn: the connection that held the lock was lost")

// WithSessionLock calls fn while it holds the advisory lock of this key, for work that takes longer than one transaction should.
// It waits until the lock is free or ctx ends. The lock is held by a separate connection outside the pool. It excludes
// [AdvisoryLock] with the same key.
//
// While it waits, it tries to acquire the lock about every 0.1 s. Between attempts the session is idle. It holds no snapshot that
// delays VACUUM or CREATE INDEX CONCURRENTLY, and no statement timeout ends the wait. Waiting sessions have no order.
//
// Behind a transaction pooler WithSessionLock returns pgfx.ErrNoSession.
//
// If the connection is lost, and the lock with it, fn's context ends with the cause [ErrLockLost], and the returned error
// matches it. A lost connection is detected when the network reports it, which can take long if the server has vanished. So fn
// must tolerate that another holder has already started.
//
// When the manager is closed, a wait for the lock ends, the context of fn ends with the cause pgfx.ErrClosed, and
// [Manager.Close] waits for fn. Later calls return pgfx.ErrClosed.
func (m *Manager) WithSessionLock(ctx context.Context, key string, fn func(ctx context.Context) error) error {
	_, err := m.withSessionLock(ctx, key, true, fn)
	return err
}

// TryWithSessionLock is [Manager.WithSessionLock] without waiting. If the lock is held elsewhere, it returns false and doesn't
// call fn.
func (m *Manager) TryWithSessionLock(ctx context.Context, key string, fn func(ctx context.Context) error) (bool, error) {
	return m.withSessionLock(ctx, key, false, fn)
}

func (m *Manager) withSessionLock(ctx context.Context, key string, wait bool, fn func(context.Context) error) (locked bool, err error) {
	lockCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	leave, err := m.sessionLocks.enter(cancel)
	if err != nil {
		return false, sessionLockError(lockCtx, key, err)
	}
	defer leave() // after the connection is closed
	conn, err := m.db.Session(lockCtx, "lock")
	if err != nil {
		return false, sessionLockError(lockCtx, key, err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
		defer cancel()
		_ = conn.Close(ctx) // the lock is released already, or ends with the session
	}()
	if locked, err = acquireSessionLock(lockCtx, conn, key, wait); err != nil {
		return false, sessionLockError(lockCtx, key, err)
	}
	if !locked {
		return false, nil
	}
	lost := make(chan error, 1)
	go func() {
		err := waitForLoss(conn)
		if err != nil {
			cancel(ErrLockLost)
		}
		lost <- err
	}()
	defer func() { // fn may panic
		_ = conn.PgConn().Conn().SetReadDeadline(time.Unix(1, 0)) // ends waitForLoss, which a broken socket has ended already
		lossErr := <-lost
		cancel(nil)
		if lossErr == nil {
			lossErr = unlock(ctx, conn, key)
		}
		if lossErr != nil {
			err = errors.Join(err, fmt.Errorf("%w: %q: %w", ErrLockLost, key, lossErr))
		}
	}()
	return true, fn(lockCtx)
}

// sessionLockPoll is the average time between attempts to acquire a session lock that is held elsewhere.
const sessionLockPoll = 100 * time.Millisecond

// acquireSessionLock acquires a lock. If it is held elsewhere and wait is true, it tries again until ctx ends.
func acquireSessionLock(ctx context.Context, conn *pgx.Conn, key string, wait bool) (locked bool, err error) {
	for {
		err := conn.QueryRow(ctx, "select pg_try_advisory_lock($1)", LockKey(key)).Scan(&locked)
		if err != nil || locked || !wait {
			return locked, err //nolint:wrapcheck // the caller wraps it
		}
		timer := time.NewTimer(sessionLockPoll/2 + rand.N(sessionLockPoll)) // jitter, so that waiting sessions don't try together
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return false, ctx.Err()
		}
	}
}

// sessionLockError adds the cause of an ended ctx to err.
func sessionLockError(ctx context.Context, key string, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("txn: lock %q: %w: %w", key, cause, err)
	}
	return fmt.Errorf("txn: lock %q: %w", key, err)
}

// waitForLoss returns an error when the connection is lost, and nil when its read deadline has passed.
func waitForLoss(conn *pgx.Conn) error {
	for {
		_, err := conn.WaitForNotification(context.Background())
		if err == nil { // a notification that was not asked for
			continue
		}
		if conn.IsClosed() {
			return err //nolint:wrapcheck // the caller wraps it
		}
		return nil
	}
}

// unlock releases the lock, so that it is free at once. Otherwise it would be free only when the server has noticed the end of
// the session.
func unlock(ctx context.Context, conn *pgx.Conn, key string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	if err := conn.PgConn().Conn().SetReadDeadline(time.Time{}); err != nil {
		return err //nolint:wrapcheck // the caller wraps it
	}
	_, err := conn.Exec(ctx, "select pg_advisory_unlock($1)", LockKey(key))
	return err //nolint:wrapcheck // the caller wraps it
}

// sessionLocks tracks the closures that hold session locks or wait for them. Their connections are outside the pool, whose
// Close doesn't wait for them.
type sessionLocks struct {
	mu     sync.Mutex
	open   map[*context.CancelCauseFunc]struct{}
	closed bool
	empty  chan struct{} // closed when the last closure has left; nil while close isn't waiting
}

// enter adds a closure, whose ctx cancel ends. The closure must call leave at its end. The error is pgfx.ErrClosed after close.
func (l *sessionLocks) enter(cancel context.CancelCauseFunc) (leave func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, pgfx.ErrClosed
	}
	if l.open == nil {
		l.open = make(map[*context.CancelCauseFunc]struct{})
	}
	l.open[&cancel] = struct{}{}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.open, &cancel)
		if len(l.open) == 0 && l.empty != nil {
			close(l.empty)
			l.empty = nil
		}
	}, nil
}

// close cancels the contexts of all closures and waits until they have left or ctx ends. No closure can enter afterwards.
func (l *sessionLocks) close(ctx context.Context) error {
	l.mu.Lock()
	l.closed = true
	for cancel := range l.open {
		(*cancel)(pgfx.ErrClosed)
	}
	if len(l.open) > 0 && l.empty == nil {
		l.empty = make(chan struct{})
	}
	n, empty := len(l.open), l.empty
	l.mu.Unlock()
	if n == 0 {
		return nil
	}
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("txn: close: closures with session locks are still running although their contexts have ended: %d: %w",
			n, context.Cause(ctx))
	}
}

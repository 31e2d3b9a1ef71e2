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
// matches it. A loss is detected at once if the network reports it, and otherwise within 15 s. Another holder may have started by
// then, and fn must tolerate that. [Manager.Lead] detects a loss sooner, and can refuse the writes of the previous holder.
//
// When the manager is closed, a wait for the lock ends, the context of fn ends with the cause pgfx.ErrClosed, and
// [Manager.Close] waits for fn. Later calls return pgfx.ErrClosed.
func (m *Manager) WithSessionLock(ctx context.Context, key string, fn func(ctx context.Context) error) error {
	_, err := m.withSessionLock(ctx, newSessionLock(key, true), fn)
	return err
}

// TryWithSessionLock is [Manager.WithSessionLock] without waiting. If the lock is held elsewhere, it returns false and doesn't
// call fn.
func (m *Manager) TryWithSessionLock(ctx context.Context, key string, fn func(ctx context.Context) error) (bool, error) {
	return m.withSessionLock(ctx, newSessionLock(key, false), fn)
}

const (
	// sessionLockPoll is the average time between attempts to acquire a session lock that is held elsewhere.
	sessionLockPoll = 100 * time.Millisecond
	// sessionLockCheck and sessionLockCheckTimeout add up to the time within which a lost connection is noticed.
	sessionLockCheck        = 10 * time.Second
	sessionLockCheckTimeout = 5 * time.Second
)

// sessionLock describes how a session lock is acquired and held.
type sessionLock struct {
	key  string
	wait bool          // until the lock is free
	poll time.Duration // average time between attempts
	// check is the time between two checks of the connection, and checkTimeout the longest time that one may take.
	check, checkTimeout time.Duration
	// begin and acquired, if not nil, prepare the session before the first attempt and once the lock is held.
	begin, acquired func(ctx context.Context, conn *pgx.Conn) error

	lost bool // while the closure ran
}

func newSessionLock(key string, wait bool) *sessionLock {
	return &sessionLock{key: key, wait: wait, poll: sessionLockPoll, check: sessionLockCheck, checkTimeout: sessionLockCheckTimeout}
}

func (m *Manager) withSessionLock(ctx context.Context, lock *sessionLock, fn func(context.Context) error) (locked bool, err error) {
	lockCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	leave, err := m.sessionLocks.enter(cancel)
	if err != nil {
		return false, sessionLockError(lockCtx, lock.key, err)
	}
	defer leave() // after the connection is closed
	conn, err := m.db.Session(lockCtx, "lock")
	if err != nil {
		return false, sessionLockError(lockCtx, lock.key, err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
		defer cancel()
		_ = conn.Close(ctx) // the lock is released already, or ends with the session
	}()
	if locked, err = lock.acquire(lockCtx, conn); err != nil {
		return false, sessionLockError(lockCtx, lock.key, err)
	}
	if !locked {
		return false, nil
	}
	watchCtx, endWatch := context.WithCancel(context.WithoutCancel(ctx))
	lost := make(chan error, 1)
	go func() {
		err := lock.watch(watchCtx, conn)
		if err != nil {
			cancel(ErrLockLost)
		}
		lost <- err
	}()
	defer func() { // fn may panic
		endWatch()
		lossErr := <-lost
		cancel(nil)
		if lossErr == nil {
			lossErr = unlock(ctx, conn, lock.key)
		}
		if lossErr != nil {
			lock.lost = true
			err = errors.Join(err, fmt.Errorf("%w: %q: %w", ErrLockLost, lock.key, lossErr))
		}
	}()
	return true, fn(lockCtx)
}

// acquire acquires the lock. If it is held elsewhere and l.wait is true, it tries again until ctx ends.
func (l *sessionLock) acquire(ctx context.Context, conn *pgx.Conn) (locked bool, err error) {
	if l.begin != nil {
		if err := l.begin(ctx, conn); err != nil {
			return false, err
		}
	}
	for {
		err := conn.QueryRow(ctx, "select pg_try_advisory_lock($1)", LockKey(l.key)).Scan(&locked)
		if locked && l.acquired != nil {
			err = l.acquired(ctx, conn)
		}
		if err != nil || locked || !l.wait {
			return locked, err
		}
		timer := time.NewTimer(l.poll/2 + rand.N(l.poll)) // jitter, so that waiting sessions don't try together
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

// watch returns an error when the connection is lost, and nil when ctx ends.
func (l *sessionLock) watch(ctx context.Context, conn *pgx.Conn) error {
	for {
		err := l.waitForLoss(ctx, conn)
		if ctx.Err() == nil && !conn.IsClosed() {
			err = l.ping(ctx, conn)
		}
		if conn.IsClosed() {
			return err
		}
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the end of ctx is no loss
		}
	}
}

// waitForLoss returns the error of a lost connection, or any other result after l.check.
func (l *sessionLock) waitForLoss(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, l.check)
	defer cancel()
	_, err := conn.WaitForNotification(ctx) // the session listens to no channel
	return err                              //nolint:wrapcheck // the caller wraps it
}

// ping checks the connection. It closes one that doesn't respond. The end of ctx doesn't shorten it, because that would close the
// connection, too.
func (l *sessionLock) ping(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.checkTimeout)
	defer cancel()
	err := conn.Ping(ctx)
	if err != nil && !conn.IsClosed() {
		_ = conn.PgConn().Conn().Close()
		_ = conn.Close(ctx) // the socket is closed already
	}
	return err //nolint:wrapcheck // the caller wraps it
}

// unlock releases the lock, so that it is free at once. Otherwise it would be free only when the server has noticed the end of
// the session.
func unlock(ctx context.Context, conn *pgx.Conn, key string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
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

package txn

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// LockKey returns the number under which a key is locked: the first eight bytes of its SHA-256, big-endian, as a signed
// integer. It is documented so that programs in other languages and people at a prompt can take the same lock:
//
//	select pg_advisory_lock(('x' || left(encode(sha256('key'), 'hex'), 16))::bit(64)::bigint)
//
// Two keys collide with a probability of 2^-64; they would then exclude each other, no more.
func LockKey(key string) int64 {
	sum := sha256.Sum256([]byte(key))
	return int64(binary.BigEndian.Uint64(sum[:])) //nolint:gosec // all 64 bits, whatever the sign
}

// Lock takes the advisory lock of this key for the rest of the transaction that ctx carries, the innermost one of whichever
// database, and waits until it is free or ctx ends (PostgreSQL manual, "Advisory Locks"). A [Nested] scope that is rolled
// back gives it back. Whoever has it may take it again. The error is [ErrNoTransaction] outside of a transaction.
func AdvisoryLock(ctx context.Context, key string) error {
	s, err := active(ctx)
	if err != nil {
		return err
	}
	if _, err := s.t.Exec(ctx, "select pg_advisory_xact_lock($1)", LockKey(key)); err != nil {
		return fmt.Errorf("txn: lock %q: %w", key, err)
	}
	return nil
}

// TryLock is [AdvisoryLock] without waiting: it returns whether the lock was free, or held by this transaction already.
func TryAdvisoryLock(ctx context.Context, key string) (bool, error) {
	s, err := active(ctx)
	if err != nil {
		return false, err
	}
	var got bool
	if err := s.t.QueryRow(ctx, "select pg_try_advisory_xact_lock($1)", LockKey(key)).Scan(&got); err != nil {
		return false, fmt.Errorf("txn: lock %q: %w", key, err)
	}
	return got, nil
}

// ErrLockLost is the cause with which the context of a session lock's closure ends when the lock's connection is lost.
// Somebody else may have the lock by then.
var ErrLockLost = errors.New("txn: the connection that held the lock was lost")

// WithSessionLock calls fn while it holds the advisory lock of this key, for work that takes longer than a transaction
// should, or that needs several. It waits until the lock is free or ctx ends. The lock is held by a connection of its own,
// outside of the pool, and shares its keys with [AdvisoryLock]. Behind a transaction pooler it fails with pgfx.ErrNoSession.
//
// When the manager is closed, as an application's stop does, waiting for the lock ends, fn's context ends with the cause
// pgfx.ErrClosed, and the stop waits for fn; from then on the error is pgfx.ErrClosed. When that connection is lost, and the
// lock with it, fn's context ends with the cause [ErrLockLost], which is returned too. A lost connection is noticed when the
// network tells so, which a server that has vanished may not: what fn writes should bear that somebody else has begun.
func (m *Manager) WithSessionLock(ctx context.Context, key string, fn func(ctx context.Context) error) error {
	_, err := m.withSessionLock(ctx, key, "select true from pg_advisory_lock($1)", fn)
	return err
}

// TryWithSessionLock is [Manager.WithSessionLock] without waiting: when somebody else has the lock it returns false and
// doesn't call fn.
func (m *Manager) TryWithSessionLock(ctx context.Context, key string, fn func(ctx context.Context) error) (bool, error) {
	return m.withSessionLock(ctx, key, "select pg_try_advisory_lock($1)", fn)
}

func (m *Manager) withSessionLock(ctx context.Context, key, lock string, fn func(context.Context) error) (got bool, err error) {
	held, end := context.WithCancelCause(ctx)
	defer end(nil)
	leave, err := m.sessions.enter(end)
	if err != nil {
		return false, lockError(held, key, err)
	}
	defer leave() // when the connection is closed
	conn, err := m.db.Session(held, "lock")
	if err != nil {
		return false, lockError(held, key, err)
	}
	defer func() {
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
		defer cancel()
		_ = conn.Close(cleanup) // the lock has been given back, or goes with the session
	}()
	if err := conn.QueryRow(held, lock, LockKey(key)).Scan(&got); err != nil {
		return false, lockError(held, key, err)
	}
	if !got {
		return false, nil
	}
	watched := make(chan error, 1)
	go func() {
		err := watch(conn)
		if err != nil {
			end(ErrLockLost)
		}
		watched <- err
	}()
	defer func() { // fn may panic
		_ = conn.PgConn().Conn().SetReadDeadline(time.Unix(1, 0)) // ends the watch; a socket on which this fails has ended it
		lost := <-watched
		end(nil)
		if lost == nil {
			lost = unlock(ctx, conn, key)
		}
		if lost != nil {
			err = errors.Join(err, fmt.Errorf("%w: %q: %w", ErrLockLost, key, lost))
		}
	}()
	return true, fn(held)
}

// lockError says why there is no lock, and what has ended ctx if that is why.
func lockError(ctx context.Context, key string, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("txn: lock %q: %w: %w", key, cause, err)
	}
	return fmt.Errorf("txn: lock %q: %w", key, err)
}

// watch returns nil when the connection's read deadline has passed, and an error when the connection is lost.
func watch(conn *pgx.Conn) error {
	for {
		_, err := conn.WaitForNotification(context.Background())
		if err == nil { // nothing that we have asked for
			continue
		}
		if conn.IsClosed() {
			return err //nolint:wrapcheck // the caller wraps it
		}
		return nil
	}
}

// unlock gives the lock back, so that it is free when this returns and not only when the server has noticed the end of the
// session.
func unlock(ctx context.Context, conn *pgx.Conn, key string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	if err := conn.PgConn().Conn().SetReadDeadline(time.Time{}); err != nil {
		return err //nolint:wrapcheck // the caller wraps it
	}
	_, err := conn.Exec(ctx, "select pg_advisory_unlock($1)", LockKey(key))
	return err //nolint:wrapcheck // the caller wraps it
}

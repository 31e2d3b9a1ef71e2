package migrate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

const (
	minimumPoll    = 50 * time.Millisecond
	maximumPoll    = 500 * time.Millisecond
	cleanupTimeout = 5 * time.Second
)

// ErrLockLost ends a run that no longer holds the migration lock, because its session was lost or its lease expired. The running
// migration is rolled back if it has a transaction. Another instance may be migrating. The next [Run] continues.
var ErrLockLost = errors.New("migrate: the migration lock was lost during the run; another instance may be migrating")

const (
	lockKey = `hashtextextended('rdsfx.migrate:' || $1, 0)`
	// holdersOfLock finds the holder of the advisory lock, which pg_locks shows in two halves.
	holdersOfLock = `select ` + sessionColumns + ` from pg_locks l join pg_stat_activity a on a.pid = l.pid
		where l.locktype = 'advisory' and l.granted and l.objsubid = 1
			and l.database = (select oid from pg_database where datname = current_database())
			and (l.classid::bigint << 32) | l.objid::bigint = ` + lockKey + ` order by 1`
)

// acquireLock waits until this process may migrate. The context that it returns ends when the lock is lost. The function
// releases the lock and must be called.
func (m *migrator) acquireLock(ctx context.Context) (context.Context, func(), error) {
	if m.lease != nil {
		return m.acquireLease(ctx)
	}
	session, err := m.login.Session(ctx, "migration-lock")
	if err != nil {
		return nil, nil, fmt.Errorf("migrate: lock: %w", err)
	}
	if err := m.poll(ctx, func() (bool, []Session, error) { return m.tryLock(ctx, session) }); err != nil {
		closeSession(ctx, session)
		return nil, nil, err
	}
	locked, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, err := session.WaitForNotification(locked); locked.Err() == nil {
			cancel(errors.Join(ErrLockLost, err))
		}
	}()
	return locked, func() {
		cancel(nil)
		<-done
		closeSession(ctx, session) // which releases the lock
	}, nil
}

func closeSession(ctx context.Context, session *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	_ = session.Close(ctx) // the server ends the session in any case
}

// tryLock tries the advisory lock. A blocking pg_advisory_lock would hold a snapshot, for which CREATE INDEX CONCURRENTLY in the other
// instance would wait forever.
func (m *migrator) tryLock(ctx context.Context, session *pgx.Conn) (granted bool, holders []Session, err error) {
	err = session.QueryRow(ctx, "select pg_try_advisory_lock("+lockKey+")", m.settings.table).Scan(&granted)
	if err != nil || granted {
		return granted, nil, err //nolint:wrapcheck // the caller wraps it
	}
	holders, err = sessions(ctx, session, holdersOfLock, m.settings.table)
	return false, holders, err
}

// poll calls try until it grants the lock, and logs the wait.
func (m *migrator) poll(ctx context.Context, try func() (granted bool, holders []Session, err error)) error {
	began := time.Now()
	var logged time.Time
	for attempt := 0; ; attempt++ {
		granted, holders, err := try()
		if err != nil {
			return fmt.Errorf("migrate: lock: %w", err)
		}
		if granted {
			return nil
		}
		if time.Since(logged) >= m.settings.progress {
			logged = time.Now()
			m.log.Info("waiting for another instance that migrates", zap.Stringers("holders", holders),
				zap.Duration("elapsed", time.Since(began)), zap.Duration("lock_wait", m.settings.lockWait))
		}
		wait := minimumPoll + rand.N(min(maximumPoll, minimumPoll<<min(attempt, 4))) //nolint:mnd // doubles four times
		if time.Since(began)+wait > m.settings.lockWait {
			return &LockedError{Waited: time.Since(began), Holders: holders}
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return &LockedError{Waited: time.Since(began), Holders: holders, err: context.Cause(ctx)}
		}
	}
}

// acquireLease takes the table lease.
func (m *migrator) acquireLease(ctx context.Context) (context.Context, func(), error) {
	if err := m.poll(ctx, func() (bool, []Session, error) { return m.lease.try(own(ctx)) }); err != nil {
		return nil, nil, err
	}
	locked, cancel := context.WithCancelCause(ctx)
	m.lease.endRun = cancel
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.lease.hold(locked)
	}()
	return locked, func() {
		cancel(nil)
		<-done
		m.lease.release(ctx)
	}, nil
}

// lockLost adds to the error of work under the lock that the lock was lost, because the error may be an effect of another process.
func (m *migrator) lockLost(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		check, cancel := context.WithTimeout(ctx, cleanupTimeout)
		defer cancel()
		_ = m.lease.renew(check) // which ends ctx if the lock is lost
	}
	if cause := context.Cause(ctx); errors.Is(cause, ErrLockLost) && !errors.Is(err, ErrLockLost) {
		return errors.Join(cause, err)
	}
	return err
}

// Locked calls fn while no other instance is in a Locked call of the same name on this database. Use it for setup steps that run the
// migrations of other libraries, which often do not lock. It waits as [Run] does. The context that fn receives ends when the lock is
// lost. Errors: [*LockedError], [ErrLockLost], errors of connecting, and the error of fn as it is.
func Locked(ctx context.Context, db *pgfx.DB, name string, fn func(ctx context.Context) error) error {
	s, err := newSettings([]Option{WithTable("locked_" + name)})
	if err != nil {
		return err
	}
	m := &migrator{settings: s, db: db, login: db, log: db.Logger().Named("migrate").With(zap.String("lock", name))}
	m.sql = sql.OpenDB(db.Internals().Connector("migrate"))
	defer m.close()
	m.useLease()
	ctx, unlock, err := m.acquireLock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return m.lockLost(ctx, fn(ctx))
}

package migrate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pressly/goose/v3/lock"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

const (
	minimumPoll    = 50 * time.Millisecond
	maximumPoll    = 500 * time.Millisecond
	cleanupTimeout = 5 * time.Second
	leaseTable     = "_lock" // appended to the version table's name
	leaseLength    = 30 * time.Second
	leaseHeartbeat = 5 * time.Second
	leasePoll      = time.Second
)

// ErrLockLost ends a run whose lock's session was lost. The running migration is rolled back if it has a transaction.
var ErrLockLost = errors.New("migrate: the session that held the migration lock was lost")

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
func (m *migrator) acquireLock(ctx context.Context, db *sql.DB) (context.Context, func(), error) {
	if m.login.Config().Pooler == pgfx.PoolerTransaction {
		return m.acquireLease(ctx, db)
	}
	session, err := m.login.Session(ctx, "migration-lock")
	if err != nil {
		return nil, nil, fmt.Errorf("migrate: lock: %w", err)
	}
	if err := m.pollLock(ctx, session); err != nil {
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

// pollLock tries the advisory lock until it gets it. A blocking pg_advisory_lock would hold a snapshot, for which CREATE INDEX
// CONCURRENTLY in the other instance would wait forever.
func (m *migrator) pollLock(ctx context.Context, session *pgx.Conn) error {
	began := time.Now()
	var logged time.Time
	for attempt := 0; ; attempt++ {
		var granted bool
		err := session.QueryRow(ctx, "select pg_try_advisory_lock("+lockKey+")", m.settings.table).Scan(&granted)
		if err != nil {
			return fmt.Errorf("migrate: lock: %w", err)
		}
		if granted {
			return nil
		}
		holders, err := sessions(ctx, session, holdersOfLock, m.settings.table)
		if err != nil {
			return fmt.Errorf("migrate: lock: %w", err)
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

// acquireLease takes goose's table lock, which needs no session.
func (m *migrator) acquireLease(ctx context.Context, db *sql.DB) (context.Context, func(), error) {
	locker, err := lock.NewPostgresTableLocker(
		lock.WithTableName(m.settings.table+leaseTable), lock.WithTableLeaseDuration(leaseLength),
		lock.WithTableHeartbeatInterval(leaseHeartbeat), lock.WithTableLogger(slog.New(slog.DiscardHandler)),
		lock.WithTableLockTimeout(leasePoll, uint64(max(1, m.settings.lockWait/leasePoll))))
	if err != nil {
		return nil, nil, fmt.Errorf("migrate: lock: %w", err)
	}
	began := time.Now()
	if err := locker.Lock(own(ctx), db); err != nil {
		return nil, nil, &LockedError{Waited: time.Since(began), Holders: m.leaseHolders(ctx, db), err: err}
	}
	return ctx, func() {
		ctx, cancel := context.WithTimeout(own(context.WithoutCancel(ctx)), cleanupTimeout)
		defer cancel()
		if err := locker.Unlock(ctx, db); err != nil {
			m.log.Warn("migration lease was not released and expires later", zap.Error(err), zap.Duration("lease", leaseLength))
		}
	}, nil
}

// leaseHolders returns the instance that holds the table lease, none if it is not known.
func (m *migrator) leaseHolders(ctx context.Context, db *sql.DB) []Session {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	var holder Session
	var age float64
	err := db.QueryRowContext(ctx, "select locked_by, extract(epoch from now() - locked_at)::float8 from "+
		tableIdentifier(m.settings.table+leaseTable)+" where locked").Scan(&holder.Application, &age)
	if err != nil {
		return nil
	}
	holder.Age = time.Duration(age * float64(time.Second))
	return []Session{holder}
}

// Locked calls fn while no other instance is in a Locked call of the same name on this database. Use it for setup steps that run the
// migrations of other libraries, which often do not lock. It waits as [Run] does. The context that fn receives ends when the lock is
// lost. Errors: [*LockedError], errors of connecting, and the error of fn as it is.
func Locked(ctx context.Context, db *pgfx.DB, name string, fn func(ctx context.Context) error) error {
	s, err := newSettings([]Option{WithTable("locked_" + name)})
	if err != nil {
		return err
	}
	m := &migrator{settings: s, db: db, login: db, log: db.Logger().Named("migrate").With(zap.String("lock", name))}
	m.sql = sql.OpenDB(db.Internals().Connector("migrate"))
	defer m.close()
	ctx, unlock, err := m.acquireLock(ctx, m.sql)
	if err != nil {
		return err
	}
	defer unlock()
	return fn(ctx)
}

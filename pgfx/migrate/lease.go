package migrate

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/pressly/goose/v3/database"
	"go.uber.org/zap"
)

const (
	leaseTable     = "_lock" // appended to the version table's name
	defaultLease   = 30 * time.Second
	leaseHeartbeat = 6 // renewals in the time of a lease
)

// lease is the migration lock behind a transaction pooler, where no session stays the same. It is a row that names its holder and
// expires unless the holder renews it. A process that was frozen can lose it without noticing, so each
// transaction that records a migration ends with fence. A nil lease is the advisory lock, which needs no fence.
type lease struct {
	db      *sql.DB
	table   string // quoted
	holder  string
	length  time.Duration
	log     *zap.Logger
	endRun  context.CancelCauseFunc // of the run that holds the lease
	created bool
}

func newLease(db *sql.DB, s settings, log *zap.Logger) *lease {
	host, _ := os.Hostname() // "" is good enough for a message
	return &lease{
		db: db, table: tableIdentifier(s.table + leaseTable), holder: fmt.Sprintf("%s/%d/%s", host, os.Getpid(), rand.Text()),
		length: s.lease, log: log, endRun: func(error) {},
	}
}

// create creates the table and its row, unless they exist. Concurrent calls take turns, because CREATE TABLE IF NOT EXISTS fails
// when another session creates the table at the same time.
func (l *lease) create(ctx context.Context) error {
	return inTx(ctx, l.db, func(tx *sql.Tx) error {
		for _, statement := range []string{
			"select pg_advisory_xact_lock(hashtextextended('rdsfx.migrate:lease', 0))",
			"create table if not exists " + l.table + ` (id integer primary key check (id = 1), holder text not null,
				acquired_at timestamptz not null, expires_at timestamptz not null)`,
			"insert into " + l.table + " values (1, '', '-infinity', '-infinity') on conflict do nothing",
		} {
			if _, err := tx.ExecContext(ctx, statement); err != nil {
				return err //nolint:wrapcheck // the caller wraps it
			}
		}
		return nil
	})
}

// try takes the lease if it is free or has expired. Otherwise it returns the holder. SKIP LOCKED keeps it from waiting, with a snapshot
// that would block CREATE INDEX CONCURRENTLY, for a transaction of the holder.
func (l *lease) try(ctx context.Context) (granted bool, holders []Session, err error) {
	if !l.created {
		if err := l.create(ctx); err != nil {
			return false, nil, err
		}
		l.created = true
	}
	result, err := l.db.ExecContext(ctx, "update "+l.table+ //nolint:gosec // quoted
		" set holder = $1, acquired_at = clock_timestamp(), expires_at = clock_timestamp() + $2::float8 * interval '1 second' "+
		"where id = (select id from "+l.table+" where expires_at < clock_timestamp() for update skip locked)", l.holder, l.length.Seconds())
	if err != nil {
		return false, nil, err //nolint:wrapcheck // the caller wraps it
	}
	if rows, err := result.RowsAffected(); err != nil || rows == 1 {
		return rows == 1, nil, err //nolint:wrapcheck // the caller wraps it
	}
	var holder Session
	var age float64
	err = l.db.QueryRowContext(ctx, "select holder, extract(epoch from clock_timestamp() - acquired_at)::float8 from "+l.table+
		" where holder <> ''").Scan(&holder.Application, &age)
	if errors.Is(err, sql.ErrNoRows) { // released in between
		return false, nil, nil
	}
	holder.Age = time.Duration(age * float64(time.Second))
	return false, []Session{holder}, err //nolint:wrapcheck // the caller wraps it
}

// renew extends the lease. It fails with [ErrLockLost] and ends the run if another process has taken it.
func (l *lease) renew(ctx context.Context) error {
	if l == nil {
		return nil
	}
	return l.extend(ctx, l.db)
}

// fence renews the lease as the last statement of a transaction. It locks the row, so no other process can take the lease before the
// transaction ends. Deferred constraints are checked before, because COMMIT would check them while the lease cannot be renewed.
func (l *lease) fence(ctx context.Context, tx database.DBTxConn) error {
	if l == nil {
		return nil
	}
	if _, err := tx.ExecContext(own(ctx), "set constraints all immediate"); err != nil {
		return err //nolint:wrapcheck // the server's message is about the migration
	}
	return l.extend(ctx, tx)
}

func (l *lease) extend(ctx context.Context, on database.DBTxConn) error {
	result, err := on.ExecContext(own(ctx), "update "+l.table+
		" set expires_at = clock_timestamp() + $2::float8 * interval '1 second' where holder = $1", l.holder, l.length.Seconds())
	if err != nil {
		return fmt.Errorf("renew the migration lock: %w", err)
	}
	if rows, err := result.RowsAffected(); err != nil || rows == 1 {
		return err //nolint:wrapcheck // the driver has no such error
	}
	l.endRun(ErrLockLost)
	return ErrLockLost
}

// hold renews the lease until ctx ends. It ends the run when another process has taken the lease, or when it would expire before the
// next renewal.
func (l *lease) hold(ctx context.Context) {
	interval := l.length / leaseHeartbeat
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for expires := time.Now().Add(l.length); ; {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		began := time.Now()
		renewal, cancel := context.WithTimeout(ctx, interval)
		err := l.renew(renewal)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			expires = began.Add(l.length)
		case time.Until(expires) > interval:
			l.log.Warn("migration lock was not renewed", zap.Error(err), zap.Duration("expires_in", time.Until(expires)))
		default:
			l.endRun(errors.Join(ErrLockLost, err))
			return
		}
	}
}

// release lets another process take the lease at once.
func (l *lease) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(own(context.WithoutCancel(ctx)), cleanupTimeout)
	defer cancel()
	_, err := l.db.ExecContext(ctx, "update "+l.table+ //nolint:gosec // quoted
		" set holder = '', expires_at = '-infinity' where holder = $1", l.holder)
	if err != nil {
		l.log.Warn("migration lock was not released and expires later", zap.Error(err), zap.Duration("lease", l.length))
	}
}

// inTx runs fn in a transaction. Its statements maintain the tables of this package.
func inTx(ctx context.Context, db *sql.DB, fn func(tx *sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err //nolint:wrapcheck // it has pgx's prefix
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	if err := fn(tx); err != nil {
		return err
	}
	return tx.Commit() //nolint:wrapcheck // it has pgx's prefix
}

package migrate

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// lockNotAvailable is the SQLSTATE of a statement that did not get a lock within lock_timeout.
const lockNotAvailable = "55P03"

// activeTransaction is the SQLSTATE of a statement that cannot run inside a transaction.
const activeTransaction = "25001"

// statusIdle is the transaction status of a connection outside a transaction (PostgreSQL manual, "Message Formats").
const statusIdle = 'I'

// connector opens connections that run the statements of migrations with a lock_timeout.
type connector struct {
	driver.Connector

	run *statementRunner
}

// Connect implements driver.Connector.
func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	inner, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err //nolint:wrapcheck // it has pgx's prefix
	}
	pg, ok := inner.(*stdlib.Conn)
	if !ok {
		return nil, errors.New("migrate: the connector opens connections of another driver than pgx's")
	}
	// If this process dies, the server ends its statement within seconds and frees its locks. Some systems do not support it.
	_, _ = pg.Conn().Exec(ctx, "set client_connection_check_interval = '2s'")
	return &conn{Conn: pg, run: c.run}, nil
}

// conn is a connection that sets lock_timeout for each statement of a migration.
type conn struct {
	*stdlib.Conn

	run     *statementRunner
	current limit
}

// limit is a lock_timeout, and whether it was set for a transaction only.
type limit struct {
	timeout time.Duration
	inTx    bool
}

// BeginTx implements driver.ConnBeginTx.
func (c *conn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	c.current = limit{timeout: -1}
	return c.Conn.BeginTx(ctx, opts) //nolint:wrapcheck // it has pgx's prefix
}

// ExecContext implements driver.ExecerContext.
func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if ctx.Value(ownKey{}) != nil {
		return c.Conn.ExecContext(ctx, query, args) //nolint:wrapcheck // it has pgx's prefix
	}
	return c.run.exec(ctx, c, query, args)
}

func (c *conn) inTx() bool { return c.Conn.Conn().PgConn().TxStatus() != statusIdle }

// setLimit sets lock_timeout, for the transaction if there is one.
func (c *conn) setLimit(ctx context.Context, timeout time.Duration) error {
	want := limit{timeout, c.inTx()}
	if c.current == want {
		return nil
	}
	value := strconv.FormatInt(timeout.Milliseconds(), 10)
	if _, err := c.Conn.Conn().Exec(ctx, "select set_config('lock_timeout', $1, $2)", value, want.inTx); err != nil {
		return fmt.Errorf("set lock_timeout: %w", err)
	}
	c.current = want
	return nil
}

// statementRunner runs the statements of one run of migrations, one at a time.
type statementRunner struct {
	settings *settings
	inspect  func(ctx context.Context, pid uint32) []Session

	count    int       // of its statements that succeeded
	attempts int       // of the current migration that ended in a lock timeout
	began    time.Time // of the first of them
	blockers []Session // of the latest of them
}

// begin starts the accounts of another migration.
func (r *statementRunner) begin() {
	r.count, r.attempts, r.began, r.blockers = 0, 0, time.Now(), nil
}

// exec runs a statement. Outside a transaction it repeats one that timed out waiting for a lock, because such a statement has
// changed nothing. Inside a transaction the whole migration has to be repeated (see migrator.applyNext).
func (r *statementRunner) exec(ctx context.Context, c *conn, query string, args []driver.NamedValue) (driver.Result, error) {
	inTx := c.inTx()
	for {
		if err := c.setLimit(ctx, r.lockTimeout(query)); err != nil {
			return nil, err
		}
		stop := r.watchBlockers(ctx, c, query)
		result, err := c.Conn.ExecContext(ctx, query, args)
		stop()
		if err == nil {
			r.count++
			return result, nil
		}
		if !isLockTimeout(err) {
			return nil, err //nolint:wrapcheck // applyNext adds file and line
		}
		r.attempts++
		if inTx || !r.pause(ctx) {
			return nil, err //nolint:wrapcheck // applyNext adds file and line
		}
	}
}

func isLockTimeout(err error) bool { return isCode(err, lockNotAvailable) }

func isCode(err error, code string) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pgErr.Code == code
}

// pause waits before another attempt. It returns false when there is no time for one.
func (r *statementRunner) pause(ctx context.Context) bool {
	wait := r.settings.lockTimeout/2 + rand.N(r.settings.lockTimeout)
	if time.Since(r.began)+wait > r.settings.retryFor {
		return false
	}
	select {
	case <-time.After(wait):
		return true
	case <-ctx.Done():
		return false
	}
}

// watchBlockers finds out who blocks a statement while it waits. The first attempt is not watched, since most get their locks at
// once. stop ends the watch and waits for it.
func (r *statementRunner) watchBlockers(ctx context.Context, c *conn, query string) (stop func()) {
	timeout := r.lockTimeout(query)
	if r.attempts == 0 || timeout == 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	pid, done := c.Conn.Conn().PgConn().PID(), make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-time.After(timeout / 2): //nolint:mnd // half of the wait
			if blockers := r.inspect(ctx, pid); len(blockers) > 0 {
				r.blockers = blockers
			}
		case <-ctx.Done():
		}
	}()
	return func() { cancel(); <-done }
}

var (
	leadingComments = regexp.MustCompile(`^(?s:\s+|--[^\n]*(?:\n|$)|/\*.*?\*/)*`)
	firstWord       = regexp.MustCompile(`^\w+`)
	concurrently    = regexp.MustCompile(`(?is)^(?:create\s+(?:unique\s+)?index|drop\s+index|reindex\b.*?|alter\s+table\b.*?\bdetach\s+partition\b.*?)\s+concurrently\b`)
)

// lockTimeout returns lock_timeout for a statement. CONCURRENTLY blocks no other session while it waits, and a timeout would
// leave an invalid index behind, so it has none.
func (r *statementRunner) lockTimeout(query string) time.Duration {
	query = query[len(leadingComments.FindString(query)):]
	if concurrently.MatchString(query) {
		return 0
	}
	switch strings.ToLower(firstWord.FindString(query)) {
	case "insert", "update", "delete", "merge", "with", "select", "copy", "do", "call", "values", "analyze", "vacuum", "refresh":
		return r.settings.dataLockTimeout
	}
	return r.settings.lockTimeout
}

const sessionColumns = `a.pid, coalesce(a.usename, ''), coalesce(a.application_name, ''), coalesce(a.state, 'state not visible'),
	coalesce(extract(epoch from clock_timestamp() - coalesce(a.xact_start, a.backend_start)), 0)::float8`

// blockersOf returns the sessions that block a session.
func blockersOf(ctx context.Context, conn *pgx.Conn, pid uint32) ([]Session, error) {
	return sessions(ctx, conn, "select "+sessionColumns+" from pg_stat_activity a where a.pid = any (pg_blocking_pids($1)) order by 1", int32(pid)) //nolint:gosec // a PID
}

func sessions(ctx context.Context, conn *pgx.Conn, sql string, args ...any) ([]Session, error) {
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return nil, err //nolint:wrapcheck // the caller wraps it
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (Session, error) { //nolint:wrapcheck // as above
		var s Session
		var age float64
		err := row.Scan(&s.PID, &s.User, &s.Application, &s.State, &age)
		s.Age = time.Duration(age * float64(time.Second))
		return s, err //nolint:wrapcheck // as above
	})
}

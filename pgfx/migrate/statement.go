package migrate

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// lockNotAvailable is the SQLSTATE of a statement that did not get a lock within lock_timeout.
const lockNotAvailable = "55P03"

// activeTransaction is the SQLSTATE of a statement that cannot run inside a transaction.
const activeTransaction = "25001"

// invalidTermination is the SQLSTATE of a procedure that ends transactions and was called inside one.
const invalidTermination = "2D000"

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
	opened := &conn{Conn: pg, run: c.run, current: limit{timeout: -1}}
	if c.run.pooler != pgfx.PoolerTransaction { // which would pass the setting on to other clients
		// If this process dies, the server ends its statement within seconds and frees its locks. Some systems do not support it.
		_, _ = pg.Conn().Exec(ctx, "set client_connection_check_interval = '2s'")
	}
	return opened, nil
}

// conn is a connection that sets lock_timeout for each statement of a migration.
type conn struct {
	*stdlib.Conn

	run     *statementRunner
	current limit
	session *session // before the first statement of a migration, nil until then
	pid     uint32   // of the server process, 0 if it is not known
}

// session holds the settings of a session that the maintenance of the version table depends on.
type session struct{ searchPath, role string }

// limit is a lock_timeout, and whether it was set for a transaction only.
type limit struct {
	timeout time.Duration
	inTx    bool
}

// ResetSession implements driver.SessionResetter. A session that has run a migration is not used again, because its settings may
// have changed. Files of pg_dump, for example, empty the search path.
func (c *conn) ResetSession(ctx context.Context) error {
	if c.session != nil {
		return driver.ErrBadConn
	}
	return c.Conn.ResetSession(ctx) //nolint:wrapcheck // database/sql compares it
}

// BeginTx implements driver.ConnBeginTx. Read committed is the default whatever the server's is, because a transaction with another
// isolation level could not renew a lease that was renewed meanwhile.
func (c *conn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	c.current = limit{timeout: -1}
	if opts.Isolation == driver.IsolationLevel(sql.LevelDefault) {
		opts.Isolation = driver.IsolationLevel(sql.LevelReadCommitted)
	}
	return c.Conn.BeginTx(ctx, opts) //nolint:wrapcheck // it has pgx's prefix
}

// ExecContext implements driver.ExecerContext.
func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if ctx.Value(ownKey{}) == nil {
		return c.run.exec(ctx, c, query, args)
	}
	if err := c.restoreSession(ctx); err != nil {
		return nil, err
	}
	return c.Conn.ExecContext(ctx, query, args) //nolint:wrapcheck // it has pgx's prefix
}

func (c *conn) inTx() bool { return c.Conn.Conn().PgConn().TxStatus() != statusIdle }

// saveSession remembers the session's settings before a migration changes them.
func (c *conn) saveSession(ctx context.Context) error {
	if c.session != nil {
		return nil
	}
	var s session
	err := c.Conn.Conn().QueryRow(ctx, "select current_setting('search_path'), current_setting('role')").Scan(&s.searchPath, &s.role)
	if err != nil {
		return fmt.Errorf("read the session's settings: %w", err)
	}
	c.session = &s
	return nil
}

// restoreSession undoes settings of a migration, at the end of its transaction, so that the version table is found. Behind a transaction
// pooler the session serves other clients next, so all settings are undone there.
func (c *conn) restoreSession(ctx context.Context) error {
	if c.session == nil {
		return nil
	}
	var err error
	if c.run.pooler == pgfx.PoolerTransaction {
		_, err = c.Conn.Conn().Exec(ctx, "reset role; reset all")
	} else {
		_, err = c.Conn.Conn().Exec(ctx, "select set_config('role', $1, true), set_config('search_path', $2, true)", c.session.role, c.session.searchPath)
	}
	if err != nil {
		return fmt.Errorf("restore the session's settings: %w", err)
	}
	return nil
}

// setLimit sets lock_timeout, for the transaction if there is one.
func (c *conn) setLimit(ctx context.Context, timeout time.Duration) error {
	want := limit{timeout, c.inTx()}
	if c.current == want {
		return nil
	}
	value := strconv.FormatInt(timeout.Milliseconds(), 10)
	var pid int32 // that of PgConn is the pooler's
	err := c.Conn.Conn().QueryRow(ctx, "select pg_backend_pid() from set_config('lock_timeout', $1, $2)", value, want.inTx).Scan(&pid)
	if err != nil {
		return fmt.Errorf("set lock_timeout: %w", err)
	}
	c.current, c.pid = want, uint32(pid) //nolint:gosec // a PID
	return nil
}

// statementRunner runs the statements of one run of migrations, one at a time.
type statementRunner struct {
	settings *settings
	log      *zap.Logger
	pooler   pgfx.PoolerMode
	observer observer
	lease    *lease

	file     string    // of the current statement, "" for a migration in Go
	line     int       // of the current statement
	count    int       // of the migration's statements that succeeded
	attempts int       // of the migration that ended in a lock timeout
	began    time.Time // of the first of them
	blockers []Session // of the latest of them
}

// begin starts the accounts of another migration.
func (r *statementRunner) begin() {
	r.file, r.line, r.count, r.attempts, r.began, r.blockers = "", 0, 0, 0, time.Now(), nil
}

func (r *statementRunner) elapsed() time.Duration { return time.Since(r.began) }

// exec runs a statement. Outside a transaction it repeats one that timed out waiting for a lock, because such a statement has
// changed nothing. Inside a transaction the whole migration has to be repeated (see migrator.applyNext).
func (r *statementRunner) exec(ctx context.Context, c *conn, query string, args []driver.NamedValue) (driver.Result, error) {
	if err := c.saveSession(ctx); err != nil {
		return nil, err
	}
	inTx := c.inTx()
	for {
		if !inTx { // else the end of the transaction is fenced
			if err := r.lease.renew(ctx); err != nil {
				return nil, err
			}
			if err := dropInvalidIndex(ctx, c.Conn.Conn(), query, r.log); err != nil {
				return nil, err
			}
		}
		result, err := r.attempt(ctx, c, query, args)
		if err == nil {
			r.count++
			return result, nil
		}
		if !isLockTimeout(err) {
			return nil, err
		}
		r.attempts++
		if inTx || !r.pause(ctx) {
			return nil, err
		}
	}
}

// attempt runs a statement once, with its lock_timeout. Behind a transaction pooler, a setting lasts as long as a transaction, so
// a statement outside one gets its own, unless the server refuses that.
func (r *statementRunner) attempt(ctx context.Context, c *conn, query string, args []driver.NamedValue) (driver.Result, error) {
	timeout := r.lockTimeout(query)
	if c.inTx() || r.pooler != pgfx.PoolerTransaction {
		return r.limited(ctx, c, timeout, query, args)
	}
	if timeout == 0 {
		return r.unlimited(ctx, c, query, args)
	}
	tx, err := c.BeginTx(ctx, driver.TxOptions{})
	if err != nil {
		return nil, err
	}
	result, err := r.limited(ctx, c, timeout, query, args)
	if err == nil {
		return result, tx.Commit() //nolint:wrapcheck // it has pgx's prefix
	}
	if rollback := tx.Rollback(); rollback != nil {
		return nil, errors.Join(err, rollback)
	}
	if isCode(err, activeTransaction) || isCode(err, invalidTermination) {
		return r.unlimited(ctx, c, query, args)
	}
	return nil, err
}

// unlimited runs a statement outside a transaction behind a transaction pooler. It is not known in which session it runs.
func (r *statementRunner) unlimited(ctx context.Context, c *conn, query string, args []driver.NamedValue) (driver.Result, error) {
	c.pid = 0
	return r.watched(ctx, c, 0, query, args)
}

func (r *statementRunner) limited(
	ctx context.Context, c *conn, timeout time.Duration, query string, args []driver.NamedValue,
) (driver.Result, error) {
	if err := c.setLimit(ctx, timeout); err != nil {
		return nil, err
	}
	return r.watched(ctx, c, timeout, query, args)
}

func (r *statementRunner) watched(
	ctx context.Context, c *conn, timeout time.Duration, query string, args []driver.NamedValue,
) (driver.Result, error) {
	defer r.watch(ctx, c.pid, timeout)()
	return c.Conn.ExecContext(ctx, query, args) //nolint:wrapcheck // applyNext adds file and line
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

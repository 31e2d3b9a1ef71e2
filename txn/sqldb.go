package txn

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
)

// sqlDB is the database/sql view of a manager, created on first use.
type sqlDB struct {
	once sync.Once
	db   *sql.DB
}

// SQL returns a *sql.DB for GORM, bun, sqlx, ent and other users of database/sql. Its statements run in the transaction that their
// context carries, or on the pool if it carries none. So pass the context of the closure to each of them.
//
// Inside [Manager.Do], a transaction of database/sql is a savepoint: its Rollback undoes only its own changes, and its Commit keeps
// them until the Do ends. Its options must agree with those of the running transaction, as for [Nested]; otherwise BeginTx returns
// an [*OptionMismatchError]. Outside, it is a separate transaction on a connection of the pool. Do doesn't join it, and an
// in-doubt commit of it isn't resolved.
//
// A *sql.Tx and a *sql.Conn stay with the transaction or the connection that their first statement used, whatever contexts later
// statements have. Close the rows of one statement before the next one, because a transaction does one thing at a time.
//
// If a statement is cancelled because its context has ended, its error matches that of the context and the server's. Statements
// that are prepared with database/sql are prepared by the server when they first run. A conn of sql.Conn.Raw has a method
// Conn() *pgx.Conn. No connection is kept idle, so SetMaxIdleConns has no effect.
//
// Every call returns the same value, which is safe for concurrent use and is closed by [Manager.Close].
func (m *Manager) SQL() *sql.DB {
	m.sql.once.Do(func() { m.sql.db = sql.OpenDB(sqlConnector{m}) })
	return m.sql.db
}

// sqlConnector opens connections for a *sql.DB.
type sqlConnector struct{ m *Manager }

// Connect returns a connection that is bound by its first use. The ctx of Connect may be that of another call: if the number of
// connections is limited, database/sql connects in the background.
func (c sqlConnector) Connect(context.Context) (driver.Conn, error) { return &sqlConn{m: c.m}, nil }

// Driver returns pgx's driver, as that of pgfx.DB.SQL does.
func (c sqlConnector) Driver() driver.Driver { return stdlib.GetDefaultDriver() }

// sqlConn is a connection of database/sql. It runs in one transaction of a Do, or holds one connection of the pool.
type sqlConn struct {
	m       *Manager
	session sqlSession // nil before the first use
}

var (
	_ driver.QueryerContext     = (*sqlConn)(nil)
	_ driver.ExecerContext      = (*sqlConn)(nil)
	_ driver.ConnBeginTx        = (*sqlConn)(nil)
	_ driver.ConnPrepareContext = (*sqlConn)(nil)
	_ driver.Pinger             = (*sqlConn)(nil)
	_ driver.NamedValueChecker  = (*sqlConn)(nil)
	_ driver.Validator          = (*sqlConn)(nil)
)

// sqlSession runs the statements of a connection.
type sqlSession interface { //nolint:interfacebloat // all that database/sql needs of a connection
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	Conn() *pgx.Conn

	begin(ctx context.Context, opts pgx.TxOptions) (pgx.Tx, error)
	release()
}

// bind returns the session. The first call binds the connection to the transaction that ctx carries, or acquires one of the pool.
func (c *sqlConn) bind(ctx context.Context) (sqlSession, error) { //nolint:ireturn // there are two kinds of sessions
	if c.session != nil {
		return c.session, nil
	}
	current, err := c.m.current(ctx)
	if err != nil {
		return nil, err
	}
	if current != nil {
		c.session = txSession{current.t}
		return c.session, nil
	}
	conn, err := c.m.acquire(ctx)
	if err != nil {
		return nil, err
	}
	c.session = poolSession{conn, &c.m.comments}
	return c.session, nil
}

// Conn returns the connection of pgx, nil before the first statement.
func (c *sqlConn) Conn() *pgx.Conn {
	if c.session == nil {
		return nil
	}
	return c.session.Conn()
}

// IsValid returns false, so that database/sql closes the connection after its use. Another call could carry another transaction.
func (c *sqlConn) IsValid() bool { return false }

// Close releases the connection of the pool. A transaction of a Do isn't affected.
func (c *sqlConn) Close() error {
	if c.session != nil {
		c.session.release()
		c.session = nil
	}
	return nil
}

// CheckNamedValue accepts all values, because pgx encodes them.
func (c *sqlConn) CheckNamedValue(*driver.NamedValue) error { return nil }

// Ping makes a round trip.
func (c *sqlConn) Ping(ctx context.Context) error {
	_, err := c.ExecContext(ctx, "-- ping", nil)
	return err
}

// ExecContext runs a statement.
func (c *sqlConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	session, err := c.bind(ctx)
	if err != nil {
		return nil, err
	}
	tag, err := session.Exec(ctx, query, sqlArgs(nil, args)...)
	if err != nil {
		return nil, err
	}
	return driver.RowsAffected(tag.RowsAffected()), nil
}

// QueryContext runs a query.
func (c *sqlConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	session, err := c.bind(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := session.Query(ctx, query, sqlArgs([]any{sqlFormats}, args)...)
	if err != nil {
		return nil, err
	}
	return newSQLRows(rows)
}

func sqlArgs(into []any, args []driver.NamedValue) []any {
	for _, arg := range args {
		into = append(into, arg.Value)
	}
	return into
}

// Prepare returns a statement.
func (c *sqlConn) Prepare(query string) (driver.Stmt, error) { return &sqlStmt{c, query}, nil }

// PrepareContext returns a statement, which pgx prepares when it first runs.
func (c *sqlConn) PrepareContext(_ context.Context, query string) (driver.Stmt, error) {
	return &sqlStmt{c, query}, nil
}

// Begin begins a transaction.
func (c *sqlConn) Begin() (driver.Tx, error) {
	return c.BeginTx(context.Background(), driver.TxOptions{})
}

// BeginTx begins a transaction, or sets a savepoint inside a Do.
func (c *sqlConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	session, err := c.bind(ctx)
	if err != nil {
		return nil, err
	}
	mode, err := txOptions(opts)
	if err != nil {
		return nil, err
	}
	tx, err := session.begin(ctx, mode)
	if err != nil {
		return nil, sqlstate.StatementError(ctx, err)
	}
	return sqlTx{ctx, tx}, nil
}

func txOptions(opts driver.TxOptions) (pgx.TxOptions, error) {
	var mode pgx.TxOptions
	switch level := sql.IsolationLevel(opts.Isolation); level {
	case sql.LevelDefault:
	case sql.LevelReadUncommitted:
		mode.IsoLevel = pgx.ReadUncommitted
	case sql.LevelReadCommitted:
		mode.IsoLevel = pgx.ReadCommitted
	case sql.LevelRepeatableRead, sql.LevelSnapshot:
		mode.IsoLevel = pgx.RepeatableRead
	case sql.LevelSerializable:
		mode.IsoLevel = pgx.Serializable
	case sql.LevelWriteCommitted, sql.LevelLinearizable:
		fallthrough
	default:
		return mode, fmt.Errorf("txn: PostgreSQL has no isolation level %s", level)
	}
	if opts.ReadOnly {
		mode.AccessMode = pgx.ReadOnly
	}
	return mode, nil
}

// txSession is a transaction of a Do.
type txSession struct{ *transaction }

func (s txSession) begin(ctx context.Context, opts pgx.TxOptions) (pgx.Tx, error) {
	if err := s.settings.mismatch(&settings{mode: opts}); err != nil {
		return nil, err
	}
	return s.Begin(ctx)
}

func (txSession) release() {}

// poolSession is a connection of the pool.
type poolSession struct {
	conn     *pgxpool.Conn
	comments *commenter
}

func (s poolSession) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	tag, err := s.conn.Exec(ctx, sql, s.comments.args(ctx, sql, args)...)
	return tag, sqlstate.StatementError(ctx, err)
}

func (s poolSession) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	rows, err := s.conn.Query(ctx, sql, s.comments.args(ctx, sql, args)...) //nolint:rowserrcheck // the caller checks it
	if err != nil {
		return failedRows{err}, sqlstate.StatementError(ctx, err)
	}
	return &statementRows{rows, ctx}, nil
}

func (s poolSession) Conn() *pgx.Conn { return s.conn.Conn() }

func (s poolSession) begin(ctx context.Context, opts pgx.TxOptions) (pgx.Tx, error) {
	return s.conn.Conn().BeginTx(ctx, opts) //nolint:wrapcheck // the caller's own statement
}

func (s poolSession) release() { s.conn.Release() }

// sqlTx is a transaction of database/sql.
type sqlTx struct {
	ctx context.Context //nolint:containedctx // driver.Tx has none
	tx  pgx.Tx
}

// Commit commits, or releases the savepoint.
func (t sqlTx) Commit() error { return sqlstate.StatementError(t.ctx, t.tx.Commit(t.ctx)) }

// Rollback rolls back, also after ctx has ended.
func (t sqlTx) Rollback() error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), cleanupTimeout)
	defer cancel()
	return t.tx.Rollback(ctx) //nolint:wrapcheck // the caller's own transaction
}

// sqlStmt is a prepared statement of database/sql.
type sqlStmt struct {
	conn  *sqlConn
	query string
}

var (
	_ driver.StmtExecContext  = (*sqlStmt)(nil)
	_ driver.StmtQueryContext = (*sqlStmt)(nil)
)

// Close does nothing: the statement stays in pgx's cache.
func (s *sqlStmt) Close() error { return nil }

// NumInput returns -1: pgx checks the number of arguments.
func (s *sqlStmt) NumInput() int { return -1 }

// ExecContext runs the statement.
func (s *sqlStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return s.conn.ExecContext(ctx, s.query, args)
}

// QueryContext runs the query.
func (s *sqlStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return s.conn.QueryContext(ctx, s.query, args)
}

// Exec isn't called by database/sql, which uses ExecContext.
func (s *sqlStmt) Exec([]driver.Value) (driver.Result, error) { return nil, driver.ErrSkip }

// Query isn't called by database/sql, which uses QueryContext.
func (s *sqlStmt) Query([]driver.Value) (driver.Rows, error) { return nil, driver.ErrSkip }

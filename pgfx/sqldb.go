package pgfx

import (
	"database/sql"
	"sync"

	"github.com/jackc/pgx/v5/stdlib"
)

// sqlDB is the database/sql view of the pool, created on first use.
type sqlDB struct {
	once sync.Once
	db   *sql.DB
}

// SQL returns a *sql.DB on the pool, for GORM, bun, sqlx and other users of database/sql. It uses the connections of the pool,
// so the gate, acquire timeout, statistics and registered types apply, with the same errors: [*UnavailableError],
// [*AcquireTimeoutError].
//
// It keeps no idle connections; leave SetMaxIdleConns at 0. SetMaxOpenConns limits its share of the pool. A transaction of
// database/sql is separate: it does not join a transaction in ctx, and others cannot join it. The *sql.DB that txn.Manager.SQL
// returns joins the transaction in ctx.
//
// If ctx ends while a statement runs, the error is the server's (SQLSTATE 57014) and does not match ctx's error. Errors of
// txn.Manager.SQL match both. The driver is pgx's, so a conn of sql.Conn.Raw is a *stdlib.Conn.
//
// Every call returns the same value, which is safe for concurrent use and is closed by [DB.Close].
func (db *DB) SQL() *sql.DB {
	db.sql.once.Do(func() { db.sql.db = stdlib.OpenDBFromPool(db.pool) })
	return db.sql.db
}

// closeSQL closes the *sql.DB, and creates it if needed, so that SQL returns a closed one from now on. Connections in use return
// to the pool when they are released.
func (db *DB) closeSQL() {
	_ = db.SQL().Close() // closes idle connections only, and there are none
}

package pgfx

import (
	"database/sql"
	"sync"

	"github.com/jackc/pgx/v5/stdlib"
)

// sqlDB is the database/sql view of the pool, made when it is first asked for.
type sqlDB struct {
	once sync.Once
	db   *sql.DB
}

// SQL returns a *sql.DB on the pool, for GORM, bun, sqlx and whatever else wants database/sql. Its connections are the pool's,
// so that gate, acquire timeout, statistics, registered types and leak detection apply to it, and errors are the same:
// [*UnavailableError], [*AcquireTimeoutError]. It keeps no idle connections of its own: leave SetMaxIdleConns at 0, and
// bound its share of the pool with SetMaxOpenConns where it should have one.
//
// It is the same value for the DB's whole life, safe for concurrent use, and closed by [DB.Close]. A transaction of
// database/sql is one of its own: it neither joins a transaction that the ctx carries nor can others join it.
func (db *DB) SQL() *sql.DB {
	db.sql.once.Do(func() { db.sql.db = stdlib.OpenDBFromPool(db.pool) })
	return db.sql.db
}

// closeSQL closes the *sql.DB, and sees to it that one which is asked for later is closed, too. Its connections go back to
// the pool when their users are done.
func (db *DB) closeSQL() {
	_ = db.SQL().Close() // with no idle connections there is nothing that could fail
}

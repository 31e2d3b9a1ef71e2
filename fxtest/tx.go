package fxtest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// txDatabases holds the URL of the database that tests with the same template share in [Tx]. The databases are dropped with
// the server, or by a later process.
var txDatabases struct { //nolint:gochecknoglobals // shared by the tests of a process
	mu   sync.Mutex
	urls map[string]string
}

// Tx begins a transaction that is rolled back at the end of the test. All tests of the process with the same options share
// one database. That saves the few milliseconds that a database costs, but [DB] does not have these limits:
//
//   - There is one connection for one goroutine. Code that uses a pool, an Fx application or a *txn.Manager can't join.
//   - Nothing is committed. Deferred constraints and triggers, NOTIFY and hooks after a commit do not run, and now() always
//     returns the same time.
//   - A failed statement aborts the transaction unless it runs in a savepoint (tx.Begin).
//   - Sequences are not reset, and locks are held until the end of the test. Tests that write the same rows wait for each
//     other, so do not run them in parallel.
//
// A test that commits or rolls back the transaction itself is reported. The next test then gets a new database.
func Tx(tb testing.TB, opts ...Option) pgx.Tx {
	tb.Helper()
	s := mustCollect(tb, opts)
	ctx, cancel := context.WithTimeout(context.Background(), setupTimeout)
	defer cancel()
	key, url, err := txDatabase(ctx, s)
	if err != nil {
		tb.Fatalf("fxtest: %v", err)
	}
	conn, err := connect(ctx, url)
	if err != nil {
		tb.Fatalf("fxtest: %v", err)
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		tb.Fatalf("fxtest: begin: %v", errors.Join(err, conn.Close(ctx)))
	}
	tb.Cleanup(func() { endTx(tb, key, conn, tx) })
	return tx
}

func endTx(tb testing.TB, key string, conn *pgx.Conn, tx pgx.Tx) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
	defer cancel()
	err := tx.Rollback(ctx)
	if errors.Is(err, pgx.ErrTxClosed) {
		tb.Errorf("fxtest: the test ended the transaction of Tx: use DB or New for a test that commits")
		txDatabases.mu.Lock()
		delete(txDatabases.urls, key)
		txDatabases.mu.Unlock()
		err = nil
	}
	if err := errors.Join(err, conn.Close(ctx)); err != nil {
		tb.Errorf("fxtest: roll back: %v", err)
	}
}

// txDatabase returns the URL of the shared database for these settings and its key in txDatabases.
func txDatabase(ctx context.Context, s settings) (key, url string, err error) {
	adminURL, err := serverURL(ctx)
	if err != nil {
		return "", "", err
	}
	key = adminURL + " " + s.templateName("")
	txDatabases.mu.Lock()
	defer txDatabases.mu.Unlock()
	if url, ok := txDatabases.urls[key]; ok {
		return key, url, nil
	}
	name := newDatabaseName(time.Now())
	if err := cloneTemplate(ctx, adminURL, name, s); err != nil {
		return "", "", err
	}
	if txDatabases.urls == nil {
		txDatabases.urls = make(map[string]string)
	}
	txDatabases.urls[key] = withDatabase(adminURL, name)
	return key, txDatabases.urls[key], nil
}

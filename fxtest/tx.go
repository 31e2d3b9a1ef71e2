package fxtest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// txDatabases are the databases of Tx, one for each template that the process has asked for. They live as long as the
// server, or until the janitor of a later process finds that their owner is gone.
var txDatabases struct { //nolint:gochecknoglobals // shared by the tests of a process, by design
	mu   sync.Mutex
	urls map[string]string
}

// Tx begins a transaction that is rolled back at the end of the test, on a database that all tests of the process with the
// same options share. It saves the few milliseconds that a database of its own costs, and has limits that [DB] hasn't:
//
//   - One connection, one goroutine: nothing that uses a pool, an Fx application or a *txn.Manager can join.
//   - Nothing is ever committed: constraints that are checked at the commit, triggers deferred to it, NOTIFY and hooks after
//     a commit don't happen, and now() stands still.
//   - An error of a statement spoils the rest of the test, unless a savepoint (tx.Begin) is around it.
//   - Sequences go on counting, and locks are held until the end: tests that write the same rows wait for each other. Use it
//     in tests that run one after the other.
//
// A test that ends the transaction is reported, and the next one gets a fresh database.
func Tx(tb testing.TB, opts ...Option) pgx.Tx {
	tb.Helper()
	s, err := collect(opts)
	if err != nil {
		tb.Fatalf("fxtest: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), setupTimeout)
	defer cancel()
	key, address, err := txDatabase(ctx, s)
	if err != nil {
		tb.Fatalf("fxtest: %v", err)
	}
	conn, err := connectAdmin(ctx, address)
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
		tb.Errorf("fxtest: the test has ended the transaction that Tx gave it; a test that commits needs DB or New")
		forgetTxDatabase(key)
		err = nil
	}
	if err := errors.Join(err, conn.Close(ctx)); err != nil {
		tb.Errorf("fxtest: roll back: %v", err)
	}
}

func txDatabase(ctx context.Context, s settings) (key, address string, err error) {
	adminURL, err := serverURL(ctx)
	if err != nil {
		return "", "", err
	}
	key = adminURL + " " + s.key("")
	txDatabases.mu.Lock()
	defer txDatabases.mu.Unlock()
	if address, ok := txDatabases.urls[key]; ok {
		return key, address, nil
	}
	name := databaseName(time.Now())
	if err := clone(ctx, adminURL, name, s); err != nil {
		return "", "", err
	}
	if txDatabases.urls == nil {
		txDatabases.urls = make(map[string]string)
	}
	txDatabases.urls[key] = withDatabase(adminURL, name)
	return key, txDatabases.urls[key], nil
}

func forgetTxDatabase(key string) {
	txDatabases.mu.Lock()
	defer txDatabases.mu.Unlock()
	delete(txDatabases.urls, key)
}

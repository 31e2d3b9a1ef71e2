package txn_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/internal/testctx"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/txn"
)

const (
	slowStatement = "select pg_sleep(600)"
	slowRows      = "select n, case when n > 5000 then pg_sleep(600)::text end from generate_series(1, 6000) n"
	slowTable     = `create table slow (n bigint);
create function wait() returns trigger language plpgsql as 'begin perform pg_sleep(600); return new; end';
create trigger wait before insert on slow for each row execute function wait()`
)

// slowWays are all ways to run a slow statement through a manager.
func slowWays(m *txn.Manager) map[string]func(context.Context) error {
	batch := func() *pgx.Batch {
		b := &pgx.Batch{}
		b.Queue(slowStatement)
		return b
	}
	readAll := func(rows pgx.Rows, err error) error {
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
		}
		return rows.Err()
	}
	// closing returns the error of read and requires that Close returns one, too.
	closing := func(results pgx.BatchResults, read func(pgx.BatchResults) error) error {
		err := read(results)
		if results.Close() == nil {
			return errors.New("the batch was closed without an error")
		}
		return err
	}
	return map[string]func(context.Context) error{
		"Exec": func(ctx context.Context) error {
			_, err := m.Exec(ctx, slowStatement)
			return err
		},
		"Query":    func(ctx context.Context) error { return readAll(m.Query(ctx, slowRows)) }, //nolint:rowserrcheck // readAll does
		"QueryRow": func(ctx context.Context) error { return m.QueryRow(ctx, slowStatement).Scan(nil) },
		"CollectRows": func(ctx context.Context) error {
			rows, _ := m.Query(ctx, slowStatement)
			_, err := pgx.CollectRows(rows, pgx.RowToMap)
			return err
		},
		"a batch's Exec": func(ctx context.Context) error {
			return closing(m.SendBatch(ctx, batch()), func(results pgx.BatchResults) error {
				_, err := results.Exec()
				return err
			})
		},
		"a batch's Query": func(ctx context.Context) error {
			return closing(m.SendBatch(ctx, batch()), func(results pgx.BatchResults) error {
				return readAll(results.Query()) //nolint:rowserrcheck // readAll does
			})
		},
		"a batch's QueryRow": func(ctx context.Context) error {
			return closing(m.SendBatch(ctx, batch()), func(results pgx.BatchResults) error { return results.QueryRow().Scan(nil) })
		},
		"a batch's Close": func(ctx context.Context) error { return m.SendBatch(ctx, batch()).Close() },
		"DoBatch": func(ctx context.Context) error {
			return m.DoBatch(ctx, func(b *pgx.Batch) { b.Queue(slowStatement) }, func(results pgx.BatchResults) error {
				_, err := results.Exec()
				return err
			})
		},
		"CopyFrom": func(ctx context.Context) error {
			_, err := m.CopyFrom(ctx, pgx.Identifier{"slow"}, []string{"n"}, pgx.CopyFromRows([][]any{{1}}))
			return err
		},
		"AcquireFunc": func(ctx context.Context) error {
			return m.AcquireFunc(ctx, func(ctx context.Context, conn *pgx.Conn) error {
				_, err := conn.Exec(ctx, slowStatement)
				return err
			})
		},
	}
}

// sleeping waits until a statement of the database sleeps.
func sleeping(t *testing.T, db *pgfx.DB) {
	t.Helper()
	awaitActivity(t, db, "select exists (select from "+sleepers+")")
}

// endSleepers ends the backends that sleep although their clients have gone.
func endSleepers(t *testing.T, db *pgfx.DB) {
	t.Helper()
	awaitActivity(t, db, "select count(pg_terminate_backend(pid)) = 0 from "+sleepers)
}

const sleepers = "pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()"

// awaitActivity waits until a query returns true.
func awaitActivity(t *testing.T, db *pgfx.DB, query string) {
	t.Helper()
	conn, err := db.Connect(t.Context(), "test")
	require.NoError(t, err)
	defer func() { assert.NoError(t, conn.Close(context.Background())) }()
	require.Eventually(t, func() (done bool) {
		return assert.NoError(t, conn.QueryRow(context.Background(), query).Scan(&done)) && done
	}, waitTimeout, time.Millisecond)
}

// requireContextError checks that run returns the error of its ctx and the server's, if the ctx ends while a statement of run sleeps.
func requireContextError(t *testing.T, db *pgfx.DB, run func(context.Context) error) {
	t.Helper()
	ctx, expire := testctx.Expiring(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	sleeping(t, db)
	expire()
	err := <-ended
	require.ErrorIs(t, err, context.DeadlineExceeded)
	pg, ok := errors.AsType[*pgconn.PgError](err)
	require.True(t, ok, "%v", err)
	assert.Equal(t, "57014", pg.Code)
}

func TestContextError_MatchesContextAndServer(t *testing.T) { //nolint:tparallel // they wait for the same sleeper
	t.Parallel()
	m := newManager(t)
	_, err := m.Exec(t.Context(), slowTable)
	require.NoError(t, err)
	for name, run := range slowWays(m) {
		t.Run(name, func(t *testing.T) {
			for where, within := range map[string]func(context.Context) error{
				"outside a transaction": run,
				"in Do":                 func(ctx context.Context) error { return m.Do(ctx, run) },
				"in a joined Do": func(ctx context.Context) error {
					return m.Do(ctx, func(ctx context.Context) error { return m.Do(ctx, run) })
				},
				"in a nested Do, the inner error": func(ctx context.Context) (err error) {
					_ = m.Do(ctx, func(ctx context.Context) error {
						err = m.Do(ctx, run, txn.Nested())
						return err
					})
					return err
				},
				"in Do, the statement's own context": func(ctx context.Context) error {
					return m.Do(t.Context(), func(outer context.Context) error { return run(mergedContext{ctx, outer}) })
				},
			} {
				t.Run(where, func(t *testing.T) { requireContextError(t, m.DB(), within) })
			}
		})
	}
}

// mergedContext ends with one context and has the values of another.
type mergedContext struct {
	context.Context //nolint:containedctx // the one that ends

	values context.Context //nolint:containedctx // the other
}

func (c mergedContext) Value(key any) any { return c.values.Value(key) }

func TestContextError_InStatementsOfConnection(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	raw := func(ctx context.Context) error {
		tx, _ := m.Tx(ctx)
		_, err := tx.Conn().Exec(ctx, slowStatement)
		return err
	}
	requireContextError(t, m.DB(), func(ctx context.Context) error { return m.Do(ctx, raw) })
	for _, opt := range []txn.Option{txn.Required(), txn.Nested()} {
		requireContextError(t, m.DB(), func(ctx context.Context) (err error) {
			_ = m.Do(ctx, func(ctx context.Context) error {
				err = m.Do(ctx, raw, opt)
				return err
			})
			return err
		})
	}
}

// A lost connection is distinguished from the errors of other components, although both may be an end of file.
func TestStatementError_OfLostConnectionIsUnavailable(t *testing.T) { //nolint:tparallel // they share the proxy
	t.Parallel()
	proxy := newProxy(t)
	m := managerOf(t, openDB(t, proxy.URL()))
	_, err := m.Exec(t.Context(), slowTable)
	require.NoError(t, err)
	for name, run := range slowWays(m) {
		for where, within := range map[string]func(context.Context) error{
			"pool": run, "Do": func(ctx context.Context) error { return m.Do(ctx, run) },
		} {
			t.Run(name+", "+where, func(t *testing.T) {
				ended := make(chan error, 1)
				go func() { ended <- within(t.Context()) }()
				sleeping(t, m.DB())
				proxy.ResetConnections()
				err := <-ended
				endSleepers(t, m.DB())
				if _, inDoubt := errors.AsType[*txn.OutcomeUnknownError](err); inDoubt { // of DoBatch's own transaction
					require.False(t, pgfx.IsUnavailable(err))
					return
				}
				require.ErrorIs(t, err, pgfx.ErrConnLost)
				require.True(t, pgfx.IsUnavailable(err))
			})
		}
	}
	own := func(context.Context, *pgx.Conn) error { return io.ErrUnexpectedEOF }
	require.False(t, pgfx.IsUnavailable(m.AcquireFunc(t.Context(), own)), "the closure's own error")
	require.False(t, pgfx.IsUnavailable(m.Do(t.Context(), func(ctx context.Context) error { return m.AcquireFunc(ctx, own) })))
}

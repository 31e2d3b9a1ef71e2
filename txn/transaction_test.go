package txn_test

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"runtime/debug"
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

// requireUnharmed runs fn, which ends transactions in an unusual way. It checks that nothing was committed, and that every
// connection is still open and released.
func requireUnharmed(t *testing.T, m *txn.Manager, fn func()) {
	t.Helper()
	require.NoError(t, m.Do(t.Context(), func(context.Context) error { return nil })) // opens a connection
	before := openedConns(m.DB())
	fn()
	requireReleased(t, m.DB())
	assert.Empty(t, entries(t, m.DB()))
	assert.Equal(t, before, openedConns(m.DB()), "connections were lost and replaced")
}

//go:noinline
func panicDeepInside() { panic(errTest) }

func TestDo_PanicRollsBackAndKeepsValueAndStack(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	requireUnharmed(t, m, func() {
		for range 5 {
			func() {
				defer func() {
					assert.Equal(t, errTest, recover())
					assert.Contains(t, string(debug.Stack()), "panicDeepInside")
				}()
				_ = m.Do(t.Context(), func(ctx context.Context) error {
					require.NoError(t, insert(ctx, m, "gone"))
					panicDeepInside()
					return nil
				})
			}()
		}
	})
}

func TestDo_GoexitRollsBack(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	requireUnharmed(t, m, func() {
		for range 5 {
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = m.Do(context.Background(), func(ctx context.Context) error {
					_ = insert(ctx, m, "gone")
					runtime.Goexit()
					return nil
				})
			}()
			<-done
		}
	})
}

func TestDo_CancelledContextKeepsConnection(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	requireUnharmed(t, m, func() {
		for range 5 {
			ctx, cancel := context.WithCancel(t.Context())
			err := m.Do(ctx, func(ctx context.Context) error {
				require.NoError(t, insert(ctx, m, "gone"))
				cancel()
				return ctx.Err()
			})
			require.ErrorIs(t, err, context.Canceled)
		}
	})
}

func TestDo_CancelledContextIsNotCommittedAfterNil(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	requireUnharmed(t, m, func() {
		for range 5 {
			ctx, cancel := context.WithCancel(t.Context())
			err := m.Do(ctx, func(ctx context.Context) error {
				require.NoError(t, insert(ctx, m, "gone"))
				cancel()
				return nil
			})
			require.ErrorIs(t, err, context.Canceled)
			require.NotErrorIs(t, err, txn.ErrOutcomeUnknown)
		}
	})
}

func TestDo_DeadlineDuringStatementKeepsConnection(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	requireUnharmed(t, m, func() {
		for range 3 {
			ctx, expire := testctx.Expiring(t.Context())
			ended := make(chan error, 1)
			go func() {
				ended <- m.Do(ctx, func(ctx context.Context) error {
					if err := insert(ctx, m, "gone"); err != nil {
						return err
					}
					_, err := m.Exec(ctx, "select pg_sleep(60)")
					return err
				})
			}()
			running(t, m.DB(), "select pg_sleep(60)") // until it has begun there is nothing to cancel
			expire()
			require.ErrorIs(t, <-ended, context.DeadlineExceeded)
		}
	})
}

func TestDo_ReleasesLocksBeforeItReturns(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(2))
	ctx, cancel := context.WithCancel(t.Context())
	require.Error(t, m.Do(ctx, func(ctx context.Context) error {
		_, err := m.Exec(ctx, "lock table entries in access exclusive mode")
		require.NoError(t, err)
		cancel()
		return ctx.Err()
	}))
	_, err := m.Exec(t.Context(), "set lock_timeout = '1ms'; lock table entries in access exclusive mode nowait")
	require.NoError(t, err)
}

func TestDo_EndedContextBeginsNothing(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	requireUnharmed(t, m, func() {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := m.Do(ctx, func(context.Context) error { t.Error("the closure ran"); return nil })
		require.ErrorIs(t, err, context.Canceled)
		assert.ErrorContains(t, err, "txn: begin: ")
	})
}

func TestDo_FailsFastWhileGateIsClosed(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	m.DB().Internals().Gate().Close(errTest)
	err := m.Do(t.Context(), func(context.Context) error { t.Error("the closure ran"); return nil })
	require.ErrorIs(t, err, pgfx.ErrUnavailable)
	m.DB().Internals().Gate().Open()
}

func TestDo_FailedBeginReleasesConnection(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	require.NoError(t, m.DB().AcquireFunc(t.Context(), func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "select pg_terminate_backend(pg_backend_pid())")
		require.Error(t, err)
		return nil
	}))
	require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error { return insert(ctx, m, "x") }))

	proxy := newProxy(t)
	proxied := managerOf(t, openDB(t, proxy.URL(), maxConns(1)))
	proxy.ResetConnections()
	err := proxied.Do(t.Context(), func(context.Context) error { t.Error("the closure ran"); return nil })
	require.ErrorContains(t, err, "txn: begin: ")
	require.ErrorIs(t, err, pgfx.ErrConnLost)
	require.Equal(t, http.StatusServiceUnavailable, txn.ErrorStatus(err))
	requireReleased(t, proxied.DB())
}

func TestDo_IgnoredStatementErrorIsReturned(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	requireUnharmed(t, m, func() {
		for name, fail := range map[string]func(ctx context.Context) error{
			"exec": func(ctx context.Context) error {
				_, err := m.Exec(ctx, "select 1/0")
				return err
			},
			"query": func(ctx context.Context) error {
				rows, err := m.Query(ctx, "select 1/(3-n) from generate_series(1, 9) n")
				require.NoError(t, err)
				_, err = pgx.CollectRows(rows, pgx.RowTo[int])
				return err
			},
			"row": func(ctx context.Context) error {
				var n int
				return m.QueryRow(ctx, "select 1/0").Scan(&n)
			},
			"batch": func(ctx context.Context) error {
				batch := &pgx.Batch{}
				batch.Queue("select 1/0")
				return m.SendBatch(ctx, batch).Close()
			},
			"copy": func(ctx context.Context) error {
				rows := pgx.CopyFromRows([][]any{{"twice"}, {"twice"}})
				_, err := m.CopyFrom(ctx, pgx.Identifier{"entries"}, []string{"name"}, rows)
				return err
			},
			"prepare": func(ctx context.Context) error {
				tx, _ := m.Tx(ctx)
				_, err := tx.Prepare(ctx, "broken", "selec 1")
				return err
			},
		} {
			var ignored error
			err := m.Do(t.Context(), func(ctx context.Context) error {
				require.NoError(t, insert(ctx, m, "gone"), name)
				ignored = fail(ctx)
				require.Error(t, ignored, name)
				require.ErrorContains(t, insert(ctx, m, "too late"), "25P02", name)
				return nil
			})
			require.ErrorIs(t, err, pgx.ErrTxCommitRollback, name)
			require.ErrorIs(t, err, ignored, name)
			failed, ok := errors.AsType[*txn.FailedStatementError](err)
			require.True(t, ok, name)
			assert.Equal(t, ignored, failed.Cause, name)
		}
	})
}

func TestDo_DetectsFailedStatementOnRawConn(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	requireUnharmed(t, m, func() {
		err := m.Do(t.Context(), func(ctx context.Context) error {
			tx, _ := m.Tx(ctx)
			_, err := tx.Conn().Exec(ctx, "select 1/0")
			require.Error(t, err)
			return nil
		})
		require.ErrorIs(t, err, pgx.ErrTxCommitRollback)
	})
}

func TestDo_RefusedCommitIsRolledBack(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	_, err := m.Exec(t.Context(), `create table children (parent text references entries deferrable initially deferred)`)
	require.NoError(t, err)
	requireUnharmed(t, m, func() {
		err := m.Do(t.Context(), func(ctx context.Context) error {
			_, err := m.Exec(ctx, "insert into children values ('missing')")
			return err
		})
		require.ErrorContains(t, err, "txn: commit: ")
		require.NotErrorIs(t, err, txn.ErrOutcomeUnknown)
		var refused *pgconn.PgError
		require.ErrorAs(t, err, &refused)
		assert.Equal(t, "23503", refused.Code)
	})
}

func TestDo_ReportsCommitByClosure(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	before := openedConns(m.DB())
	err := m.Do(t.Context(), func(ctx context.Context) error {
		_, err := m.Exec(ctx, "commit")
		return err
	})
	require.ErrorContains(t, err, "leave commit and rollback to Do")
	require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error { return insert(ctx, m, "x") }))
	assert.Equal(t, before, openedConns(m.DB()))
}

func TestDo_ConnLostBeforeCommitIsRolledBack(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	for _, ignore := range []bool{false, true} {
		var lost error
		err := m.Do(t.Context(), func(ctx context.Context) error {
			require.NoError(t, insert(ctx, m, "gone"))
			_, lost = m.Exec(ctx, "select pg_terminate_backend(pg_backend_pid())")
			require.Error(t, lost)
			if ignore {
				return nil
			}
			return lost
		})
		require.ErrorIs(t, err, lost)
		require.NotErrorIs(t, err, txn.ErrOutcomeUnknown)
	}
	err := m.Do(t.Context(), func(ctx context.Context) error {
		tx, _ := m.Tx(ctx)
		return tx.Conn().Close(ctx)
	})
	require.ErrorContains(t, err, "the connection was lost before the commit")
	requireReleased(t, m.DB())
	assert.Empty(t, entries(t, m.DB()))
}

func TestDo_FailedRollbackKeepsErrorOfClosure(t *testing.T) {
	t.Parallel()
	proxy := newProxy(t)
	m := managerOf(t, openDB(t, proxy.URL(), maxConns(1)))
	err := m.Do(t.Context(), func(ctx context.Context) error {
		require.NoError(t, insert(ctx, m, "gone"))
		proxy.ResetConnections()
		return errTest
	})
	assert.Equal(t, errTest, err)
	requireReleased(t, m.DB())
	assert.Empty(t, entries(t, m.DB()))
}

func TestDo_DetectsTransactionEndedByClosure(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	for _, sql := range []string{"commit and chain", "commit; begin", "commit; start transaction", "commit"} {
		err := m.Do(t.Context(), func(ctx context.Context) error {
			_, err := m.Exec(ctx, sql)
			return err
		})
		require.ErrorContains(t, err, "leave commit and rollback to Do", sql)
	}
	require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
		_, err := m.Exec(ctx, "savepoint s; rollback to s; release s")
		require.NoError(t, err)
		_, err = m.Exec(ctx, "begin")
		return err
	}))
	calls := 0
	err := m.Do(t.Context(), func(ctx context.Context) error {
		calls++
		_, err := m.Exec(ctx, "commit and chain")
		require.NoError(t, err)
		_, err = m.Exec(ctx, "do $$ begin raise exception 'again' using errcode = '40001'; end $$")
		return err
	}, txn.Retry(pgfx.RetryPolicy{MaxAttempts: 3, Delay: time.Millisecond}))
	require.ErrorContains(t, err, "40001")
	require.ErrorContains(t, err, "leave commit and rollback to Do")
	assert.Equal(t, 1, calls, "a closure that has committed must not be retried")
}

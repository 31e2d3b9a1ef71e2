package txn_test

import (
	"context"
	"errors"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/internal/testctx"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/txn"
)

// unharmed runs fn, which ends transactions in some unusual way, and checks that nothing was committed, no connection was
// lost and none is held.
func unharmed(t *testing.T, m *txn.Manager, fn func()) {
	t.Helper()
	require.NoError(t, m.Do(t.Context(), func(context.Context) error { return nil })) // the pool has a connection
	before := connected(m.DB())
	fn()
	settled(t, m.DB())
	assert.Empty(t, entries(t, m.DB()))
	assert.Equal(t, before, connected(m.DB()), "connections were lost and replaced")
}

//go:noinline
func panicDeepInside() { panic(errTest) }

func TestAPanicRollsBackAndGoesOnWithItsValueAndStack(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	unharmed(t, m, func() {
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

func TestGoexitNeverCommits(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	unharmed(t, m, func() {
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

func TestACancelledContextRollsBackAndCostsNoConnection(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	unharmed(t, m, func() {
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

func TestACancelledContextIsNotCommittedEvenIfTheClosureReturnsNil(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	unharmed(t, m, func() {
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

func TestADeadlineDuringAStatementCostsNoConnection(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	unharmed(t, m, func() {
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

func TestLocksAreGoneWhenDoReturns(t *testing.T) {
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

func TestAContextThatHasEndedBeginsNothing(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	unharmed(t, m, func() {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := m.Do(ctx, func(context.Context) error { t.Error("the closure ran"); return nil })
		require.ErrorIs(t, err, context.Canceled)
		assert.ErrorContains(t, err, "txn: begin: ")
	})
}

func TestBeginFailsFastWhileTheGateIsShut(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	m.DB().Internals().Gate().Close(errTest)
	err := m.Do(t.Context(), func(context.Context) error { t.Error("the closure ran"); return nil })
	require.ErrorIs(t, err, pgfx.ErrUnavailable)
	m.DB().Internals().Gate().Open()
}

func TestABeginThatTheServerRefusesGivesTheConnectionBack(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	require.NoError(t, m.DB().AcquireFunc(t.Context(), func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "select pg_terminate_backend(pg_backend_pid())")
		require.Error(t, err)
		return nil
	}))
	require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error { return insert(ctx, m, "x") }))

	proxy := newProxy(t)
	behind := managerOf(t, openDB(t, proxy.URL(), maxConns(1)))
	proxy.ResetConnections()
	err := behind.Do(t.Context(), func(context.Context) error { t.Error("the closure ran"); return nil })
	require.ErrorContains(t, err, "txn: begin: ")
	settled(t, behind.DB())
}

func TestASwallowedStatementErrorIsNamed(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	unharmed(t, m, func() {
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
			var swallowed error
			err := m.Do(t.Context(), func(ctx context.Context) error {
				require.NoError(t, insert(ctx, m, "gone"), name)
				swallowed = fail(ctx)
				require.Error(t, swallowed, name)
				require.ErrorContains(t, insert(ctx, m, "too late"), "25P02", name)
				return nil
			})
			require.ErrorIs(t, err, pgx.ErrTxCommitRollback, name)
			require.ErrorIs(t, err, swallowed, name)
			failed, ok := errors.AsType[*txn.FailedStatementError](err)
			require.True(t, ok, name)
			assert.Equal(t, swallowed, failed.Cause, name)
		}
	})
}

func TestAFailedStatementPastTheManagerIsNoticedToo(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	unharmed(t, m, func() {
		err := m.Do(t.Context(), func(ctx context.Context) error {
			tx, _ := m.Tx(ctx)
			_, err := tx.Conn().Exec(ctx, "select 1/0")
			require.Error(t, err)
			return nil
		})
		require.ErrorIs(t, err, pgx.ErrTxCommitRollback)
	})
}

func TestACommitThatTheServerRefusesRollsBackForCertain(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	_, err := m.Exec(t.Context(), `create table children (parent text references entries deferrable initially deferred)`)
	require.NoError(t, err)
	unharmed(t, m, func() {
		err := m.Do(t.Context(), func(ctx context.Context) error {
			_, err := m.Exec(ctx, "insert into children values ('nobody')")
			return err
		})
		require.ErrorContains(t, err, "txn: commit: ")
		require.NotErrorIs(t, err, txn.ErrOutcomeUnknown)
		var refused *pgconn.PgError
		require.ErrorAs(t, err, &refused)
		assert.Equal(t, "23503", refused.Code)
	})
}

func TestAClosureThatCommitsByItselfIsToldSo(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	before := connected(m.DB())
	err := m.Do(t.Context(), func(ctx context.Context) error {
		_, err := m.Exec(ctx, "commit")
		return err
	})
	require.ErrorContains(t, err, "leave commit and rollback to Do")
	require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error { return insert(ctx, m, "x") }))
	assert.Equal(t, before, connected(m.DB()))
}

func TestAConnectionLostBeforeCommitIsCertainlyRolledBack(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	for _, swallow := range []bool{false, true} {
		var lost error
		err := m.Do(t.Context(), func(ctx context.Context) error {
			require.NoError(t, insert(ctx, m, "gone"))
			_, lost = m.Exec(ctx, "select pg_terminate_backend(pg_backend_pid())")
			require.Error(t, lost)
			if swallow {
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
	settled(t, m.DB())
	assert.Empty(t, entries(t, m.DB()))
}

func TestARollbackThatFailsIsNotTheCallersProblem(t *testing.T) {
	t.Parallel()
	proxy := newProxy(t)
	m := managerOf(t, openDB(t, proxy.URL(), maxConns(1)))
	err := m.Do(t.Context(), func(ctx context.Context) error {
		require.NoError(t, insert(ctx, m, "gone"))
		proxy.ResetConnections()
		return errTest
	})
	assert.Equal(t, errTest, err)
	settled(t, m.DB())
	assert.Empty(t, entries(t, m.DB()))
}

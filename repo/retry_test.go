package repo_test

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// newKillable returns users on a pool with one connection that is never validated. kill terminates the connection's backend over
// the connection other.
func newKillable(t *testing.T) (m *txn.Manager, users *repo.Repository[User, uuid.UUID], kill func(), other *pgx.Conn) {
	t.Helper()
	url := fxtest.URL(t, fxtest.SQL(usersDDL))
	m = managerOf(t, fxtest.DB(t, fxtest.At(url), fxtest.Config(pgfx.Config{
		Pool: pgfx.PoolConfig{MaxConns: 1}, Timeouts: pgfx.TimeoutConfig{Validate: pgfx.Off},
	})))
	other, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, other.Close(context.Background())) })
	return m, newRepo[User, uuid.UUID](t, m, "users"), func() {
		var pid int
		require.NoError(t, m.DB().Pool().AcquireFunc(t.Context(), func(conn *pgxpool.Conn) error {
			pid = int(conn.Conn().PgConn().PID())
			return nil
		}))
		terminate(t, other, pid)
	}, other
}

// terminate terminates a backend and waits until it is gone.
func terminate(t *testing.T, other *pgx.Conn, pid int) {
	t.Helper()
	var ended bool
	require.NoError(t, other.QueryRow(t.Context(), "select pg_terminate_backend($1, 20000)", pid).Scan(&ended))
	require.True(t, ended)
}

func TestReads_AreRetriedAfterConnectionLoss(t *testing.T) {
	t.Parallel()
	m, users, kill, _ := newKillable(t)
	ada := create(t, users, "ada", "bob")[0]
	key := ada.ID
	for name, read := range map[string]func(context.Context) error{
		"Get":     func(ctx context.Context) error { return second(users.Get(ctx, key)) },
		"First":   func(ctx context.Context) error { return second(users.First(ctx)) },
		"Find":    func(ctx context.Context) error { return second(users.Find(ctx)) },
		"GetMany": func(ctx context.Context) error { return second(users.GetMany(ctx, []uuid.UUID{key})) },
		"Count":   func(ctx context.Context) error { return second(users.Count(ctx)) },
		"Exists":  func(ctx context.Context) error { return second(users.Exists(ctx)) },
		"Column":  func(ctx context.Context) error { return second(repo.Column[string](ctx, users, "email")) },
		"Batch": func(ctx context.Context) error {
			var batch repo.Batch
			row, n := users.In(&batch).Get(key), users.In(&batch).Count()
			if err := batch.Send(ctx); err != nil {
				return err
			}
			found, err := row.Value()
			require.NoError(t, err)
			assert.Equal(t, "ada", found.Email)
			count, err := n.Value()
			require.NoError(t, err)
			assert.EqualValues(t, 2, count)
			return nil
		},
		"Page": func(ctx context.Context) error { return second(users.Page(ctx, "", 1, repo.WithTotal())) },
		"All": func(ctx context.Context) error {
			n := 0
			for _, err := range users.All(ctx) {
				if err != nil {
					return err
				}
				n++
			}
			assert.Equal(t, 2, n)
			return nil
		},
	} {
		before := m.DB().RetryPolicy().Budget.Stats().Retries
		kill()
		require.NoError(t, read(t.Context()), name)
		assert.Greater(t, m.DB().RetryPolicy().Budget.Stats().Retries, before, name)
	}
}

func TestWrites_AreNotRetriedAfterConnectionLoss(t *testing.T) {
	t.Parallel()
	m, users, kill, other := newKillable(t)
	ada := create(t, users, "ada")[0]
	for name, call := range map[string]func(context.Context) error{
		"Create": func(ctx context.Context) error { return users.Create(ctx, &User{Email: "eve"}) },
		"Update": func(ctx context.Context) error { row := ada; return users.Update(ctx, &row) },
		"Delete": func(ctx context.Context) error { return users.Delete(ctx, ada.ID) },
		"UpdateWhere": func(ctx context.Context) error {
			return second(users.UpdateWhere(ctx, []repo.Change{repo.Set("age", 7)}, repo.AllRows()))
		},
		"Batch": func(ctx context.Context) error {
			var batch repo.Batch
			users.In(&batch).Count()
			users.In(&batch).Delete(ada.ID)
			return batch.Send(ctx)
		},
	} {
		kill()
		require.Error(t, call(t.Context()), name)
		require.NoError(t, reconnect(t, m), name)
	}
	calls := 0
	err := m.Do(t.Context(), func(ctx context.Context) error {
		calls++
		if _, err := users.Get(ctx, ada.ID); err != nil {
			return err
		}
		tx, inside := m.Tx(ctx)
		require.True(t, inside)
		terminate(t, other, int(tx.Conn().PgConn().PID()))
		_, err := users.Get(ctx, ada.ID)
		return err
	})
	require.Error(t, err)
	assert.Equal(t, 1, calls)
}

// reconnect waits until the pool has a working connection.
func reconnect(t *testing.T, m *txn.Manager) error {
	t.Helper()
	return pgfx.Retry(t.Context(), pgfx.RetryPolicy{Idempotency: pgfx.Idempotent}, func(ctx context.Context) error {
		return m.DB().Pool().Ping(ctx)
	})
}

func TestRetryStale_EncodesForTheTypesThatColumnsHaveNow(t *testing.T) {
	t.Parallel()
	type Counted struct {
		ID int64 `db:"id,pk"`
		N  int64
	}
	m := newManager(t, "create table counted (id integer primary key, n integer not null)")
	counted := newRepo[Counted, int64](t, m, "counted")
	const large = 1 << 40
	ctx := t.Context()
	require.NoError(t, counted.Create(ctx, &Counted{1, 1}))
	require.NoError(t, second(counted.Get(ctx, 1)))
	require.ErrorContains(t, counted.Create(ctx, &Counted{large, large}), "be sent as type integer")
	_, err := counted.Get(ctx, large)
	require.ErrorContains(t, err, "be sent as type integer")
	require.NoError(t, counted.Create(ctx, &Counted{2, 2}))
	require.NoError(t, second(counted.Get(ctx, 1)))
	require.NoError(t, second(m.Exec(ctx, "alter table counted alter column id type bigint, alter column n type bigint")))
	require.NoError(t, counted.Create(ctx, &Counted{large, large}))
	got, err := counted.Get(ctx, large)
	require.NoError(t, err)
	assert.Equal(t, Counted{large, large}, *got)
}

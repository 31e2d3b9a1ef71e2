package faults_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/internal/testctx"
)

// commitVariants insert a row and commit it in each of the ways that the protocol offers.
var commitVariants = map[string]func(ctx context.Context, conn *pgx.Conn) error{
	"simple protocol": func(ctx context.Context, conn *pgx.Conn) error {
		return conn.PgConn().Exec(ctx, "begin; insert into entries values (1); /* now */ Commit").Close()
	},
	"statement by statement": func(ctx context.Context, conn *pgx.Conn) error {
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "insert into entries values ($1)", 1)
			return err
		})
	},
	"extended protocol": func(ctx context.Context, conn *pgx.Conn) error {
		for _, sql := range []string{"begin", "insert into entries values (1)", "end"} {
			if _, err := conn.PgConn().ExecParams(ctx, sql, nil, nil, nil, nil).Close(); err != nil {
				return err
			}
		}
		return nil
	},
	"prepared statement": func(ctx context.Context, conn *pgx.Conn) error {
		if _, err := conn.Prepare(ctx, "done", "commit"); err != nil {
			return err
		}
		if err := conn.PgConn().Exec(ctx, "begin; insert into entries values (1)").Close(); err != nil {
			return err
		}
		_, err := conn.PgConn().ExecPrepared(ctx, "done", nil, nil, nil).Close()
		return err
	},
}

func TestProxy_DropsCommitAckOfCommittedTx(t *testing.T) {
	t.Parallel()
	for name, commit := range commitVariants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy, direct := setup(t)
			conn, other := connect(t, proxy.URL()), connect(t, proxy.URL())
			proxy.DropCommitAck()
			require.Error(t, commit(t.Context(), conn))
			assert.True(t, conn.IsClosed())
			assert.Equal(t, 1, countEntries(t, direct))

			execute(t, other, "begin", "insert into entries values (2)", "commit") // the fault applies once
			require.NoError(t, proxy.AwaitConnections(t.Context(), 1))
		})
	}
}

func TestProxy_BlackHolesCommitAck(t *testing.T) {
	t.Parallel()
	proxy, direct := setup(t)
	conn := connect(t, proxy.URL())
	proxy.BlackHoleCommitAck()
	ctx, expire := testctx.Expiring(t.Context())
	outcome := make(chan error, 1)
	go func() { outcome <- commitVariants["statement by statement"](ctx, conn) }()
	require.Eventually(t, func() bool { return countEntries(t, direct) == 1 }, timeout, time.Millisecond)
	assert.Empty(t, outcome)
	expire()
	require.ErrorIs(t, <-outcome, context.DeadlineExceeded)
	proxy.Heal()
	execute(t, connect(t, proxy.URL()), "begin", "commit")
}

func TestProxy_DropsCommit(t *testing.T) {
	t.Parallel()
	for name, commit := range commitVariants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy, direct := setup(t)
			conn, other := connect(t, proxy.URL()), connect(t, proxy.URL())
			proxy.DropCommit()
			require.Error(t, commit(t.Context(), conn))
			assert.Zero(t, countEntries(t, direct))
			execute(t, other, "begin", "insert into entries values (2)", "commit") // the fault applies once
		})
	}
}

func TestProxy_OnCommitDecidesPerCommit(t *testing.T) {
	t.Parallel()
	proxy, direct := setup(t)
	decisions := []faults.CommitFault{faults.CommitPasses, faults.CommitDropped, faults.CommitAckDropped}
	calls := 0
	proxy.OnCommit(func() faults.CommitFault { calls++; return decisions[calls-1] })
	commit := func(id int) error {
		conn := connect(t, proxy.URL())
		_, err := conn.Exec(t.Context(), fmt.Sprintf("begin; insert into entries values (%d); commit", id))
		return err
	}
	require.NoError(t, commit(0))
	require.Error(t, commit(1))
	require.Error(t, commit(2))
	proxy.DropCommitAck() // takes precedence
	require.Error(t, commit(3))
	proxy.OnCommit(nil)
	require.NoError(t, commit(4))
	assert.Equal(t, 3, calls)
	assert.Equal(t, "{0,2,3,4}", query[string](t, direct, "select array_agg(n order by n)::text from entries"))
}

func TestProxy_OnCommitFaultEndsWithFailedCommit(t *testing.T) {
	t.Parallel()
	proxy, _ := setup(t)
	conn := connect(t, proxy.URL())
	proxy.OnCommit(func() faults.CommitFault { return faults.CommitAckDropped })
	_, err := conn.Exec(t.Context(), "begin; insert into entries values (1), (1); commit")
	require.ErrorContains(t, err, "23505")
	proxy.OnCommit(nil)
	execute(t, conn, "rollback", "begin", "commit")
}

func TestProxy_HalfOpenCommitLeavesTxOpen(t *testing.T) {
	t.Parallel()
	proxy, direct := setup(t)
	conn := connect(t, proxy.URL())
	proxy.OnCommit(func() faults.CommitFault { return faults.CommitHalfOpen })
	execute(t, conn, "begin", "insert into entries values (1)")
	_, err := conn.Exec(t.Context(), "commit")
	require.Error(t, err)
	open := fmt.Sprintf("select count(*) from pg_stat_activity where state = 'idle in transaction' and pid = %d", conn.PgConn().PID())
	assert.Equal(t, 1, query[int](t, direct, open))
	proxy.ResetConnections()
	require.Eventually(t, func() bool {
		return query[int](t, direct, open) == 0
	}, timeout, time.Millisecond)
	assert.Zero(t, countEntries(t, direct))
}

func TestProxy_DropCommitAckIgnoresFailedCommit(t *testing.T) {
	t.Parallel()
	proxy, _ := setup(t)
	conn := connect(t, proxy.URL())
	proxy.DropCommitAck()
	_, err := conn.Exec(t.Context(), "begin; insert into entries values (1), (1); commit")
	require.ErrorContains(t, err, "23505", "a deferred constraint fails the commit")
	execute(t, conn, "rollback", "begin")
	_, err = conn.Exec(t.Context(), "select no_such_column")
	require.Error(t, err)
	tag, err := conn.Exec(t.Context(), "commit")
	require.NoError(t, err)
	assert.Equal(t, "ROLLBACK", tag.String())
	_, err = conn.Exec(t.Context(), "begin; insert into entries values (1); commit")
	require.Error(t, err)
}

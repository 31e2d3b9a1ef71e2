package faults_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/internal/testctx"
)

// commitWays are the ways to send a COMMIT.
var commitWays = map[string]func(ctx context.Context, conn *pgx.Conn) error{
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

func TestALostAcknowledgementHidesACommitThatHappened(t *testing.T) {
	t.Parallel()
	for name, commit := range commitWays {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy, direct := newProxy(t)
			conn, other := connect(t, proxy.URL()), connect(t, proxy.URL())
			proxy.DropCommitAck()
			require.Error(t, commit(t.Context(), conn))
			assert.True(t, conn.IsClosed())
			assert.Equal(t, 1, query[int](t, direct, "select count(*) from entries"))

			execute(t, other, "begin", "insert into entries values (2)", "commit") // it happens once
			require.NoError(t, proxy.AwaitConnections(t.Context(), 1))
		})
	}
}

func TestAMutedAcknowledgementLetsTheClientWait(t *testing.T) {
	t.Parallel()
	proxy, direct := newProxy(t)
	conn := connect(t, proxy.URL())
	proxy.BlackHoleCommitAck()
	ctx, expire := testctx.Expiring(t.Context())
	outcome := make(chan error, 1)
	go func() { outcome <- commitWays["statement by statement"](ctx, conn) }()
	require.Eventually(t, func() bool { return query[int](t, direct, "select count(*) from entries") == 1 }, patience, time.Millisecond)
	assert.Empty(t, outcome)
	expire()
	require.ErrorIs(t, <-outcome, context.DeadlineExceeded)
	proxy.Heal()
	execute(t, connect(t, proxy.URL()), "begin", "commit")
}

func TestALostCommitNeverHappens(t *testing.T) {
	t.Parallel()
	for name, commit := range commitWays {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy, direct := newProxy(t)
			conn, other := connect(t, proxy.URL()), connect(t, proxy.URL())
			proxy.DropCommit()
			require.Error(t, commit(t.Context(), conn))
			assert.Zero(t, query[int](t, direct, "select count(*) from entries"))
			execute(t, other, "begin", "insert into entries values (2)", "commit") // it happens once
		})
	}
}

func TestEachCommitCanHaveAFateOfItsOwn(t *testing.T) {
	t.Parallel()
	proxy, direct := newProxy(t)
	fates := []faults.CommitFault{faults.CommitPasses, faults.CommitDropped, faults.CommitAckDropped, faults.CommitPasses, faults.CommitDropped}
	asked := 0
	proxy.OnCommit(func() faults.CommitFault { asked++; return fates[asked-1] })
	commit := func(id int) error {
		conn := connect(t, proxy.URL())
		_, err := conn.Exec(t.Context(), fmt.Sprintf("begin; insert into entries values (%d); commit", id))
		return err
	}
	require.NoError(t, commit(0))
	require.Error(t, commit(1))
	require.Error(t, commit(2))
	proxy.DropCommitAck() // comes first
	require.Error(t, commit(3))
	proxy.OnCommit(nil)
	require.NoError(t, commit(4))
	assert.Equal(t, 3, asked)
	assert.Equal(t, "{0,2,3,4}", query[string](t, direct, "select array_agg(n order by n)::text from entries"))
}

func TestAnAcknowledgementsFateDoesntOutliveACommitThatFails(t *testing.T) {
	t.Parallel()
	proxy, _ := newProxy(t)
	conn := connect(t, proxy.URL())
	proxy.OnCommit(func() faults.CommitFault { return faults.CommitAckDropped })
	_, err := conn.Exec(t.Context(), "begin; insert into entries values (1), (1); commit")
	require.ErrorContains(t, err, "23505")
	proxy.OnCommit(nil)
	execute(t, conn, "rollback", "begin", "commit")
}

func TestAHeldCommitLeavesItsTransactionOpen(t *testing.T) {
	t.Parallel()
	proxy, direct := newProxy(t)
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
	}, patience, time.Millisecond)
	assert.Zero(t, query[int](t, direct, "select count(*) from entries"))
}

func TestACommitThatFailsIsAnsweredAndTheNextAcknowledgementIsLost(t *testing.T) {
	t.Parallel()
	proxy, _ := newProxy(t)
	conn := connect(t, proxy.URL())
	proxy.DropCommitAck()
	_, err := conn.Exec(t.Context(), "begin; insert into entries values (1), (1); commit")
	require.ErrorContains(t, err, "23505", "the deferred constraint speaks at the end")
	execute(t, conn, "rollback", "begin")
	_, err = conn.Exec(t.Context(), "select no_such_column")
	require.Error(t, err)
	tag, err := conn.Exec(t.Context(), "commit")
	require.NoError(t, err)
	assert.Equal(t, "ROLLBACK", tag.String())
	_, err = conn.Exec(t.Context(), "begin; insert into entries values (1); commit")
	require.Error(t, err)
}

func TestCommitsAreFoundInScripts(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]bool{
		"commit":                                true,
		" COMMIT ;":                             true,
		"end":                                   true,
		"End Transaction":                       true,
		"commit and chain":                      true,
		"/* a /* b */ ; */ -- c\n commit":       true,
		"insert into t values (';'); commit":    true,
		"select 'it''s; commit', \"a;b\"; end":  true,
		`select E'\'; commit'; commit`:          true,
		"do $a$ begin; commit; end $a$; commit": true,
		"select $1, $2; commit work":            true,
		"commit prepared 'x'":                   false,
		"":                                      false,
		";;":                                    false,
		"rollback":                              false,
		"select 1 -- ; commit":                  false,
		"select ';commit'":                      false,
		`select e'\'; commit'`:                  false,
		"do $$ begin; commit; end $$":           false,
		"do $a$ ;commit $$ ;commit":             false,
		"select 1 /* ; commit":                  false,
		"select case when true then 1 end":      false,
		"select ended from t; committed":        false,
		"select like'\\'; commit prepared 'x'; begin": false,
	} {
		assert.Equal(t, want, faults.Commits(script), script)
	}
}

func TestMessagesAreFoundHoweverTheyAreCut(t *testing.T) {
	t.Parallel()
	stream := startup(t)
	for _, message := range []pgproto3.FrontendMessage{
		&pgproto3.Query{String: "select 1"}, &pgproto3.Sync{}, &pgproto3.Parse{Name: "s", Query: strings.Repeat("x", 1<<17)},
		&pgproto3.Bind{PreparedStatement: "s"}, &pgproto3.CopyData{Data: make([]byte, 5000)}, &pgproto3.Query{String: "commit"},
	} {
		var err error
		stream, err = message.Encode(stream)
		require.NoError(t, err)
	}
	_, _, want := faults.Follow("QPB", true, [][]byte{slices.Clone(stream)})
	require.Len(t, want, 6)
	assert.Equal(t, []string{"Qselect 1\x00", "P", "Qcommit\x00"}, []string{want[2], want[3], want[5]}, "what is too long passes unseen")
	for range 200 {
		passed, held, seen := faults.Follow("QPB", true, cutUp(stream, func(left int) int { return 1 + rand.IntN(left) }))
		assert.Equal(t, stream, passed)
		assert.Empty(t, held)
		assert.Equal(t, want, seen)
	}
}

func TestAnEncryptedStreamIsPassedOnAndNotRead(t *testing.T) {
	t.Parallel()
	hello := append([]byte{0x16, 3, 1, 2, 0}, queryMessage(t, "commit")...)
	for _, size := range []int{1, 4, len(hello)} {
		passed, held, seen := faults.Follow("Q", true, cutUp(hello, func(left int) int { return min(size, left) }))
		assert.Equal(t, hello, passed)
		assert.Empty(t, held)
		assert.Empty(t, seen)
	}
}

func startup(t *testing.T) []byte {
	t.Helper()
	stream, err := (&pgproto3.SSLRequest{}).Encode(nil)
	require.NoError(t, err)
	hello := &pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": "me"}}
	stream, err = hello.Encode(stream)
	require.NoError(t, err)
	return stream
}

func cutUp(stream []byte, length func(left int) int) [][]byte {
	var pieces [][]byte
	for len(stream) > 0 {
		n := length(len(stream))
		pieces = append(pieces, slices.Clone(stream[:n]))
		stream = stream[n:]
	}
	return pieces
}

func FuzzNothingIsLostOrAddedOnTheWay(f *testing.F) {
	f.Add([]byte("Q\x00\x00\x00\x0bcommit\x00"), uint8(3), false)
	f.Add([]byte("\x00\x00\x00\x08\x04\xd2\x16\x2f"), uint8(1), true)
	f.Add([]byte("\x16\x03\x01\x02\x00"), uint8(2), true)
	f.Add(binary.BigEndian.AppendUint32([]byte{'C'}, 0xffffffff), uint8(9), false)
	f.Fuzz(func(t *testing.T, stream []byte, size uint8, untyped bool) {
		pieces := cutUp(stream, func(left int) int { return min(left, int(size)+1) })
		passed, held, _ := faults.Follow("QPBECZ", untyped, pieces)
		assert.Equal(t, string(stream), string(passed)+string(held))
	})
}

func FuzzCommitsEndsOnAnyText(f *testing.F) {
	f.Add("select 'a")
	f.Add("$a$ $$ /* \" e'\\")
	f.Fuzz(func(_ *testing.T, script string) { faults.Commits(script) })
}

package pgfx_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestInternals_ReportFailuresOfStatementsAcquiresAndConnects(t *testing.T) {
	t.Parallel()
	db := started(t, serverConfig())
	var last atomic.Pointer[error]
	db.Internals().SubscribeFailures(func(err error) { last.Store(&err) })

	_, err := db.Pool().Exec(t.Context(), "select 1")
	require.NoError(t, err)
	require.Nil(t, last.Load(), "a success is no failure")

	_, err = db.Pool().Exec(t.Context(), "select 1/0")
	require.Error(t, err)
	require.Equal(t, err, *last.Swap(nil))

	var away atomic.Bool
	gone := started(t, serverConfig(), pgfx.WithBeforeConnect(func(_ context.Context, cc *pgx.ConnConfig) error {
		if away.Load() {
			cc.Host, cc.Port = "127.0.0.1", 1
		}
		return nil
	}))
	away.Store(true)
	gone.Reset()
	var connects, all atomic.Int64
	gone.Internals().SubscribeFailures(func(err error) {
		if _, ok := err.(*pgconn.ConnectError); ok { //nolint:errorlint // the error of the attempt itself
			connects.Add(1)
		}
		all.Add(1)
	})
	_, err = gone.Pool().Exec(t.Context(), "select 1")
	require.Error(t, err)
	require.Positive(t, connects.Load())
	require.Greater(t, all.Load(), int64(1), "the acquire has failed too")
}

// endlessRows are the rows of a COPY that never ends. Before each row they call sent.
type endlessRows struct {
	row  []any
	sent func()
}

func (r *endlessRows) Next() bool             { r.sent(); return true }
func (r *endlessRows) Values() ([]any, error) { return r.row, nil }
func (r *endlessRows) Err() error             { return nil }

// pgx closes the socket if the write of a COPY times out. That is no evidence about the database.
func TestInternals_CopyThatItsContextCutsIsReportedWithItsError(t *testing.T) {
	t.Parallel()
	db, proxy := proxied(t, pgfx.PoolConfig{MaxConns: 1})
	conn, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	_, err = conn.Exec(t.Context(), "create temporary table copied (v text)")
	require.NoError(t, err)
	var reported []error
	db.Internals().SubscribeFailures(func(err error) { reported = append(reported, err) })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	rows := &endlessRows{row: []any{strings.Repeat("x", 1<<20)}}
	n := 0
	rows.sent = func() {
		if n++; n == 3 {
			proxy.BlackHoleAll()
			cancel()
		}
	}
	_, err = conn.CopyFrom(ctx, pgx.Identifier{"copied"}, []string{"v"}, rows)
	require.Error(t, err)
	require.Len(t, reported, 1)
	require.ErrorIs(t, reported[0], err)
	require.ErrorIs(t, reported[0], context.Canceled)

	// A write or a read may have timed out first. In the first case, the error is that of a closed socket.
	reported = nil
	db.StatementFailed(ctx, &net.OpError{Op: "read", Err: net.ErrClosed})
	require.ErrorIs(t, reported[0], context.Canceled)
	require.ErrorIs(t, reported[0], net.ErrClosed)
	db.StatementFailed(t.Context(), net.ErrClosed)
	db.StatementFailed(ctx, io.ErrUnexpectedEOF)
	require.Equal(t, []error{net.ErrClosed, io.ErrUnexpectedEOF}, reported[1:], "the connection broke")
}

func TestInternals_CancelRemovesOnlyItsOwnSubscriber(t *testing.T) {
	t.Parallel()
	db := started(t, serverConfig())
	fail := func() {
		_, err := db.Pool().Exec(t.Context(), "select 1/0")
		require.Error(t, err)
	}
	var first, second atomic.Int64
	cancelFirst := db.Internals().SubscribeFailures(func(error) { first.Add(1) })
	cancelSecond := db.Internals().SubscribeFailures(func(error) { second.Add(1) })
	fail()
	assert.EqualValues(t, 1, first.Load())
	assert.EqualValues(t, 1, second.Load())

	cancelFirst()
	cancelFirst()
	fail()
	assert.EqualValues(t, 1, first.Load())
	assert.EqualValues(t, 2, second.Load())

	cancelSecond()
	fail()
	assert.EqualValues(t, 2, second.Load())
}

func TestInternals_GuardsRefuseAcquires(t *testing.T) {
	t.Parallel()
	db := started(t, serverConfig())
	var asked atomic.Int64
	cancelCounter := db.Internals().GuardAcquire(func(context.Context) error { asked.Add(1); return nil })
	refused := errors.New("not here")
	cancelGuard := db.Internals().GuardAcquire(func(ctx context.Context) error {
		if ctx.Value(guardedKey{}) != nil {
			return refused
		}
		return nil
	})
	marked := context.WithValue(t.Context(), guardedKey{}, true)
	_, err := db.Pool().Exec(marked, "select 1")
	require.ErrorIs(t, err, refused)
	require.ErrorIs(t, db.AcquireFunc(marked, func(context.Context, *pgx.Conn) error {
		t.Error("called without a connection")
		return nil
	}), refused)
	_, err = db.Pool().Exec(t.Context(), "select 1")
	require.NoError(t, err, "acquires without the mark pass")
	assert.Zero(t, db.Stats().Pool.InUse)
	assert.EqualValues(t, 3, asked.Load(), "both guards run")

	cancelCounter()
	_, err = db.Pool().Exec(marked, "select 1")
	require.ErrorIs(t, err, refused, "the other guard stays")
	assert.EqualValues(t, 3, asked.Load())

	cancelGuard()
	_, err = db.Pool().Exec(marked, "select 1")
	require.NoError(t, err)
}

type guardedKey struct{}

package pgfx_test

import (
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestOnFailureHearsOfStatementsAcquiresAndConnects(t *testing.T) {
	t.Parallel()
	db := started(t, serverConfig())
	var last atomic.Pointer[error]
	db.OnFailure(func(err error) { last.Store(&err) })

	_, err := db.Pool().Exec(t.Context(), "select 1")
	require.NoError(t, err)
	require.Nil(t, last.Load(), "a success is no failure")

	_, err = db.Pool().Exec(t.Context(), "select 1/0")
	require.Error(t, err)
	require.Equal(t, err, *last.Swap(nil))

	lazy := started(t, pgfx.Config{URL: "postgres://nobody@127.0.0.1:1/none", Start: pgfx.StartConfig{Mode: pgfx.StartLazy}})
	var connects, acquires atomic.Int64
	lazy.OnFailure(func(err error) {
		if _, ok := err.(*pgconn.ConnectError); ok { //nolint:errorlint // the error of the attempt itself
			connects.Add(1)
		}
		acquires.Add(1)
	})
	_, err = lazy.Pool().Exec(t.Context(), "select 1")
	require.Error(t, err)
	require.Positive(t, connects.Load())
	require.Greater(t, acquires.Load(), int64(1))

	db.OnFailure(nil)
	_, err = db.Pool().Exec(t.Context(), "select 1/0")
	require.Error(t, err)
	require.Nil(t, last.Load())
}

package fxtest_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/fxtest/internal/testrecorder"
)

func TestDB_ReportsLeakedConnWithStack(t *testing.T) {
	t.Parallel()
	var conn *pgxpool.Conn
	r := testrecorder.Run(t, func(tb testing.TB) {
		var err error
		conn, err = fxtest.DB(tb).Pool().Acquire(t.Context())
		require.NoError(t, err)
		_, err = conn.Exec(t.Context(), "select 'leaked'")
		require.NoError(t, err)
	})
	conn.Release() // the pool's Close still waits for it
	require.Len(t, r.Errors(), 1)
	assert.Contains(t, r.Errors()[0], "connection not released at the end of the test")
	assert.Contains(t, r.Errors()[0], "last statement: select ?")
	assert.Contains(t, r.Errors()[0], "TestDB_ReportsLeakedConnWithStack")
	assert.Contains(t, r.Errors()[0], "leaks_test.go:")
}

func TestURL_ReportsOpenConn(t *testing.T) {
	t.Parallel()
	var conn *pgx.Conn
	r := testrecorder.Run(t, func(tb testing.TB) {
		var err error
		conn, err = pgx.Connect(t.Context(), fxtest.URL(tb)+"&application_name=leaked")
		require.NoError(t, err)
	})
	require.Len(t, r.Errors(), 1)
	assert.Contains(t, r.Errors()[0], `still open: backend`)
	assert.Contains(t, r.Errors()[0], `application "leaked"`)
	_ = conn.Close(t.Context())
}

package typetest_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// The driver closes the connection of a batch that it can't encode, and the transaction keeps that connection.
func TestValueError_NamesTheColumnOnTheLastConnection(t *testing.T) {
	t.Parallel()
	db := fxtest.DB(t, fxtest.Config(pgfx.Config{Pool: pgfx.PoolConfig{MaxConns: 1}}),
		fxtest.SQL("create table small (id smallint primary key, extra text, v0 real, v1 double precision, v2 double precision, v3 numeric, v4 numeric(9,2), v5 bit, v6 tid)"))
	m, err := txn.NewManager(db)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Close(context.Background())) })
	r, err := repo.New[numbers, int64](m, "small")
	require.NoError(t, err)
	require.NoError(t, r.Create(t.Context(), &numbers{ID: 1})) // which reads the types of the columns
	const tooLarge = 1 << 20
	for name, call := range map[string]func(context.Context) error{
		"DeleteMany": func(ctx context.Context) error {
			_, err := r.DeleteMany(ctx, []int64{1, tooLarge})
			return err
		},
		"Batch": func(ctx context.Context) error {
			var b repo.Batch
			r.In(&b).Get(1)
			r.In(&b).Get(tooLarge)
			return b.Send(ctx)
		},
	} {
		err := m.Do(t.Context(), call)
		var value *repo.ValueError
		require.ErrorAs(t, err, &value, name)
		require.Equal(t, "id", value.Column, name)
		require.Equal(t, "smallint", value.Type, name)
	}
}

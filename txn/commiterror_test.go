package txn_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/txn"
)

// translator wraps the errors of commits of which accept is true.
type translator struct {
	as     error
	accept func(err error) bool
}

func (c translator) TranslateCommitError(err error) error {
	if c.accept(err) {
		return errors.Join(c.as, err)
	}
	return nil
}

func TestManager_TranslatesCommitErrors(t *testing.T) {
	t.Parallel()
	m, ctx := newManager(t), t.Context()
	_, err := m.Exec(ctx, "create table unique_later (id int unique deferrable initially deferred)")
	require.NoError(t, err)
	var as *pgconn.PgError
	errRefused := errors.New("refused")
	first := m.TranslateCommitErrors("key", translator{errRefused, func(err error) bool { return errors.As(err, &as) }})
	second := m.TranslateCommitErrors("key", translator{errTest, func(error) bool { return true }})
	require.ErrorIs(t, second.TranslateCommitError(&pgconn.PgError{}), errRefused, "the first one stays")
	require.ErrorIs(t, first.TranslateCommitError(&pgconn.PgError{}), errRefused)
	m.TranslateCommitErrors("other key", translator{nil, func(error) bool { return false }})

	const insert = "insert into unique_later values (1), (1)"
	var cause error
	err = m.Do(ctx, func(ctx context.Context) error {
		require.NoError(t, txn.AfterRollback(ctx, func(_ context.Context, err error) { cause = err }))
		_, err := m.Exec(ctx, insert)
		return err
	})
	require.ErrorIs(t, err, errRefused)
	require.ErrorContains(t, err, "txn: commit: ")
	assert.Equal(t, err, cause)
	assert.Equal(t, int64(1), m.Stats().RolledBack.Refused)

	err = m.DoBatch(ctx, func(b *pgx.Batch) { b.Queue(insert) }, func(results pgx.BatchResults) error {
		_, err := results.Exec()
		return err
	})
	require.ErrorIs(t, err, errRefused)

	err = m.Do(ctx, func(context.Context) error { return errTest })
	require.ErrorIs(t, err, errTest)
	require.NotErrorIs(t, err, errRefused, "the closure's own error stays as it is")
}

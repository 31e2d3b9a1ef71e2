package txn_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/txn"
)

func TestStats_CountEndsByReason(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	_, err := m.Exec(t.Context(), `create table children (parent text references entries deferrable initially deferred)`)
	require.NoError(t, err)
	do := func(fn func(ctx context.Context) error) {
		defer func() { _ = recover() }()
		_ = m.Do(t.Context(), fn)
	}
	do(func(context.Context) error {
		assert.EqualValues(t, 1, m.Stats().Active)
		return nil
	})
	do(func(context.Context) error { return errTest })
	do(func(context.Context) error { panic(1) })
	do(func(ctx context.Context) error { return fail(ctx, m, "40001") })
	do(func(ctx context.Context) error {
		_ = m.Do(ctx, func(context.Context) error { return errTest })
		return nil
	})
	do(func(ctx context.Context) error {
		_ = fail(ctx, m, "23505")
		return nil
	})
	do(func(ctx context.Context) error {
		m.QueryRow(ctx, "select 1")
		return nil
	})
	do(func(ctx context.Context) error {
		_, err := m.Exec(ctx, "commit")
		return err
	})
	do(func(ctx context.Context) error {
		_, err := m.Exec(ctx, "insert into children values ('missing')")
		return err
	})
	do(func(ctx context.Context) error {
		_, err := m.Exec(ctx, "select pg_terminate_backend(pg_backend_pid())")
		return err
	})
	ctx, cancel := context.WithCancel(t.Context())
	_ = m.Do(ctx, func(context.Context) error { cancel(); return nil })
	_ = m.Do(ctx, neverCalled(t))

	stats := m.Stats()
	assert.EqualValues(t, 11, stats.Duration.Count)
	assert.Positive(t, stats.Duration.Max)
	stats.Duration = m.DB().Stats().Use // excluded from the comparison
	assert.Equal(t, txn.Stats{
		Begun: 11, Committed: 1, Duration: stats.Duration,
		RolledBack: txn.RolledBack{
			Error: 1, Panic: 1, Cancelled: 1, Serialization: 1, ErrorIgnored: 2, InvalidUse: 2, Refused: 1, ConnLost: 1, BeginFailed: 1,
		},
	}, stats)
}

package txn_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/txn"
)

// statements is a tracer that records each statement with its command tag, or with "failed".
type statements struct{ seen []string }

type statementKey struct{}

func (s *statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	return context.WithValue(ctx, statementKey{}, data.SQL)
}

func (s *statements) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryEndData) {
	what := data.CommandTag.String()
	if data.Err != nil {
		what = "failed"
	}
	s.seen = append(s.seen, fmt.Sprintf("%v: %s", ctx.Value(statementKey{}), what))
}

func TestTracer_SeesBeginAndCommit(t *testing.T) {
	t.Parallel()
	s := &statements{}
	db := fxtest.DB(t, fxtest.Pool(pgfx.WithTracer(s)))
	m := managerOf(t, db, txn.WithDefaults(txn.ResolveCommit(txn.Unresolved)))
	_, err := m.Exec(t.Context(), "create table pairs (n int unique deferrable initially deferred)")
	require.NoError(t, err)
	s.seen = nil
	require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
		_, err := m.Exec(ctx, "insert into pairs values (1)")
		return err
	}))
	assert.Equal(t, []string{"begin: BEGIN", "insert into pairs values (1): INSERT 0 1", "commit: COMMIT"}, s.seen)
	before := db.Stats().Statements
	s.seen = nil
	require.Error(t, m.Do(t.Context(), func(ctx context.Context) error {
		_, err := m.Exec(ctx, "insert into pairs values (1)")
		return err
	}))
	assert.Equal(t, []string{"begin: BEGIN", "insert into pairs values (1): INSERT 0 1", "commit: failed"}, s.seen)
	assert.Equal(t, before.Count+3, db.Stats().Statements.Count)
}

package txn_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/txn"
)

func TestALostAnswerToCommitIsNeverCalledARollback(t *testing.T) {
	t.Parallel()
	for _, lost := range []verdict{loseAnswer, loseCommit} {
		proxy := newProxy(t)
		m := managerOf(t, openDB(t, newDatabase(t), proxy.through, maxConns(1)))
		proxy.onCommit(once(lost))
		err := m.Do(t.Context(), func(ctx context.Context) error { return insert(ctx, m, "x") })
		require.ErrorIs(t, err, txn.ErrOutcomeUnknown)
		if lost == loseAnswer {
			assert.Equal(t, []string{"x"}, entries(t, m.DB()))
		} else {
			assert.Empty(t, entries(t, m.DB()))
		}
		settled(t, m.DB())
	}
}

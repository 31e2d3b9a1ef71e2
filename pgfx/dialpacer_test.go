package pgfx_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestDialPacer_RampsUpAfterFailures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := pgfx.NewDialPacer(8)
		for range 8 {
			require.NoError(t, p.Begin(t.Context()), "without failures no dial waits")
		}
		for range 8 {
			p.End(errors.New("refused"))
		}
		_, limit, _ := p.Counts()
		assert.Equal(t, 1, limit)

		var most, connected atomic.Int32
		var group sync.WaitGroup
		for range 40 {
			group.Go(func() {
				require.NoError(t, p.Begin(t.Context()))
				dialing, _, _ := p.Counts()
				most.Store(max(most.Load(), int32(dialing)))
				if connected.Load() == 0 {
					assert.Equal(t, 1, dialing, "the first one alone")
				}
				time.Sleep(time.Second) // connecting takes its time
				connected.Add(1)
				p.End(nil)
			})
		}
		group.Wait()
		assert.EqualValues(t, 40, connected.Load())
		assert.EqualValues(t, 8, most.Load(), "finally as many as the pool's size")
		dialing, limit, waiting := p.Counts()
		assert.Equal(t, [3]int{0, 8, 0}, [3]int{dialing, limit, waiting})
	})
}

func TestDialPacer_CancelledWaitTakesNoTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := pgfx.NewDialPacer(1)
		require.NoError(t, p.Begin(t.Context()))
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, p.Begin(short), context.DeadlineExceeded)
		got := make(chan error, 1)
		go func() { got <- p.Begin(t.Context()) }()
		synctest.Wait()
		p.End(nil)
		require.NoError(t, <-got)
		p.End(nil)
		dialing, _, waiting := p.Counts()
		assert.Zero(t, dialing+waiting)
	})
}

func TestDialPacer_FailedHookEndsItsTurn(t *testing.T) {
	t.Parallel()
	var fail atomic.Bool
	cfg := serverConfig()
	cfg.Pool.MaxConns = 2
	db := started(t, cfg, pgfx.WithBeforeConnect(func(_ context.Context, cc *pgx.ConnConfig) error {
		cc.Tracer = nil // must not affect the pool's statistics
		if fail.Load() {
			return errors.New("not now")
		}
		return nil
	}))
	for range 5 {
		fail.Store(true)
		db.Reset()
		_, err := db.Pool().Exec(t.Context(), "select 1")
		require.ErrorContains(t, err, "not now")
		fail.Store(false)
		_, err = db.Pool().Exec(within(t, 10*time.Second), "select 1")
		require.NoError(t, err)
	}
}

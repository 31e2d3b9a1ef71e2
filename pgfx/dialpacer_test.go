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

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
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

func TestDialPacer_BrokenConnectionMakesTheNextAttemptATrial(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := pgfx.NewDialPacer(50)
		p.Lost()
		began, refused := time.Now(), errors.New("refused")
		var attempts, failures atomic.Int32
		var group sync.WaitGroup
		for range 50 {
			group.Go(func() {
				for time.Since(began) < time.Second {
					err := p.Begin(t.Context())
					if err == nil {
						attempts.Add(1)
						p.End(refused)
						continue
					}
					assert.Equal(t, refused, err, "the error of the trial")
					failures.Add(1)
				}
			})
		}
		group.Wait()
		assert.EqualValues(t, 1+time.Second/pgfx.TrialPause, attempts.Load())
		assert.Greater(t, failures.Load(), 40*attempts.Load(), "callers do not wait for another trial each")

		time.Sleep(pgfx.TrialPause)
		require.NoError(t, p.Begin(t.Context()))
		p.End(nil)
		for range 2 {
			require.NoError(t, p.Begin(t.Context()), "a success ends the pauses")
		}
	})
}

func TestDialPacer_RefuseAndResumeEndWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := pgfx.NewDialPacer(1)
		wait := func() <-chan error {
			outcome := make(chan error, 1)
			go func() { outcome <- p.Begin(t.Context()) }()
			synctest.Wait()
			return outcome
		}
		require.NoError(t, p.Begin(t.Context()))
		p.End(errors.New("refused"))
		began, closed := time.Now(), errors.New("the gate is closed")
		first, second := wait(), wait()
		p.Refuse(closed)
		assert.Equal(t, closed, <-first)
		assert.Equal(t, closed, <-second)
		first = wait()
		p.Resume()
		require.NoError(t, <-first)
		assert.Zero(t, time.Since(began))
		second = wait()
		p.Release()
		require.NoError(t, <-second, "the turn was not used")
		assert.Zero(t, time.Since(began), "that is no failure")
	})
}

// Servers that accept connections and then kill them let the login succeed.
func TestDialPacer_CountsAttemptsWhileConnectingFails(t *testing.T) {
	t.Parallel()
	const conns, callers, wanted = 8, 20, 4
	for name, fail := range map[string]func(*faults.Proxy){
		"refused":          (*faults.Proxy).RefuseNew,
		"killed at login":  func(p *faults.Proxy) { p.AcceptThenReset(faults.AfterLogin) },
		"killed at accept": func(p *faults.Proxy) { p.AcceptThenReset(faults.OnAccept) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := faults.NewProxy(t, server.URL())
			var attempts, calls atomic.Int64
			db := started(t, pgfx.Config{URL: proxy.URL(), Pool: pgfx.PoolConfig{MaxConns: conns, MinConns: conns}},
				pgfx.WithBeforeConnect(func(context.Context, *pgx.ConnConfig) error { attempts.Add(1); return nil }))
			fail(proxy)
			attempts.Store(0)
			proxy.ResetConnections()
			began := time.Now()
			var group sync.WaitGroup
			for range callers {
				group.Go(func() {
					for attempts.Load() < wanted {
						_, err := db.Pool().Exec(context.Background(), "select 1")
						assert.Error(t, err) //nolint:testifylint // not in the test's goroutine
						calls.Add(1)
					}
				})
			}
			group.Wait()
			assert.LessOrEqual(t, attempts.Load(), 2+int64(time.Since(began)/pgfx.TrialPause))
			assert.Greater(t, calls.Load(), int64(callers))

			proxy.Heal()
			require.Eventually(t, func() bool { return db.Pool().Ping(t.Context()) == nil }, eventually, tick, "without a monitor")
			dialing, _, waiting := db.DialPacer().Counts()
			assert.Zero(t, dialing+waiting)
		})
	}
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

func TestGate_ClosingAndOpeningEndsWaitsForAttempts(t *testing.T) {
	t.Parallel()
	proxy := faults.NewProxy(t, server.URL())
	db := started(t, pgfx.Config{URL: proxy.URL(), Pool: pgfx.PoolConfig{MaxConns: 1}})
	gate, pacer := db.Internals().Gate(), db.DialPacer()
	fail := func() {
		require.NoError(t, pacer.Begin(t.Context()))
		pacer.End(errors.New("refused"))
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 { // the pause may end before the gate is closed
		db.Reset()
		fail()
		outcome := make(chan error, 1)
		go func() { outcome <- db.Pool().Ping(context.Background()) }()
		require.Eventually(t, func() bool { _, _, waiting := pacer.Counts(); return waiting == 1 || len(outcome) == 1 }, eventually, tick)
		gate.Close(errors.New("down"))
		_, _, waiting := pacer.Counts()
		assert.Zero(t, waiting, "the call fails at once")
		err := <-outcome
		gate.Open()
		if err != nil {
			require.ErrorIs(t, err, pgfx.ErrUnavailable)
			require.NoError(t, pacer.Begin(ended), "an open gate permits an attempt at once")
			pacer.Release()
			return
		}
	}
	assert.Fail(t, "the call was never refused")
}

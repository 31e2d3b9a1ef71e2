package chaos_test

import (
	"context"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	"go.uber.org/fx/fxevent"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx"
	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/txn"
)

const (
	serviceConns = 4
	// serviceBudget is Fx's stop timeout of the service.
	serviceBudget = 4 * time.Second
	noteSchema    = "create table notes (id text)"
)

// runService is an Fx application whose handlers write until a call fails. With Hang it has one that never ends its transaction.
// It ends on SIGTERM.
func runService(_ context.Context, config processConfig, records *recorder) error {
	logger, err := zap.NewProduction()
	if err != nil {
		return err
	}
	fx.New(
		fx.Supply(pgfx.Config{URL: config.URL, Pool: pgfx.PoolConfig{MaxConns: serviceConns}}, logger),
		fx.WithLogger(func() fxevent.Logger { return &fxevent.ZapLogger{Logger: logger} }),
		fx.StopTimeout(serviceBudget),
		rdsfx.Module,
		fx.Invoke(func(lifecycle fx.Lifecycle, tx *txn.Manager) {
			lifecycle.Append(fx.StartHook(func() { startHandlers(tx, config, records) }))
		}),
	).Run()
	return nil
}

func startHandlers(tx *txn.Manager, config processConfig, records *recorder) {
	var number atomic.Int64
	if config.Hang {
		go func() {
			_ = write(tx, records, "hanging", func() { select {} })
		}()
	}
	for range 2 * serviceConns { // half of them wait for a connection
		go func() {
			for {
				err := write(tx, records, strconv.FormatInt(number.Add(1), 10), func() { time.Sleep(50 * time.Millisecond) })
				if outcomeOf(err) == refused {
					return
				}
			}
		}()
	}
}

// write stores a note in a transaction that takes some time.
func write(tx *txn.Manager, records *recorder, id string, think func()) error {
	rec := record{ID: id, Outcome: begun, Began: time.Now()}
	records.write(rec)
	err := tx.Do(context.Background(), func(ctx context.Context) error {
		if _, err := tx.Exec(ctx, "insert into notes values ($1)", id); err != nil {
			return err
		}
		think()
		return nil
	})
	records.end(rec, outcomeOf(err), err)
	return err
}

// TestShutdown_UnderLoad sends SIGTERM to a service while it writes.
func TestShutdown_UnderLoad(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		hang  bool
		gone  bool // the database does not respond from the signal on
		clean bool // the service ends without an error
	}{
		"healthy":       {clean: true},
		"handler hangs": {hang: true},
		"database gone": {gone: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := fxtest.URL(t, fxtest.SQL(noteSchema))
			proxy := faults.NewProxy(t, url)
			service := startProcess(t, processConfig{Kind: "service", Name: "service", URL: proxy.URL(), Dir: t.TempDir(), Hang: test.hang})
			stored := func() map[string]int {
				counts := make(map[string]int)
				for _, id := range queryRows(t, url, pgx.RowTo[string], "select id from notes") {
					counts[id]++
				}
				return counts
			}
			require.Eventually(t, func() bool { return len(stored()) > 4*serviceConns }, serverLimit, 10*time.Millisecond)
			if test.gone {
				proxy.BlackHoleAll()
			}
			signalled := time.Now()
			require.NoError(t, service.cmd.Process.Signal(syscall.SIGTERM))
			select {
			case <-service.ended:
			case <-time.After(serviceBudget + serverLimit):
				service.kill()
				require.Fail(t, "the service has not ended", service.output())
			}
			t.Logf("ended %s after the signal, with a budget of %s", rounded(time.Since(signalled)), serviceBudget)
			if test.clean {
				require.NoError(t, service.err, service.output())
			} else {
				require.Error(t, service.err)
				assert.Contains(t, service.output(), "connection")
			}
			proxy.Heal()

			records := readRecords[record](t, service.config.records())
			var result tally
			result.add(records, stored(), nil)
			assert.Empty(t, result.Examples)
			assert.NotContains(t, stored(), "hanging")
			finished := 0
			for _, rec := range records {
				if rec.Outcome == acknowledged && rec.Began.Before(signalled) && rec.Ended.After(signalled) {
					finished++
				}
			}
			if !test.gone {
				assert.Zero(t, result.Failed, "calls after the signal fail with a typed error")
				assert.Positive(t, finished, "transactions in flight are committed")
			}
			if test.clean {
				assert.Zero(t, result.Interrupted)
				assert.Positive(t, result.Refused)
			}
		})
	}
}

package pgfx_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

// The figures are how much later than its deadline a call returns: of a frozen server, and of a LISTEN that receives nothing.
func BenchmarkCancel_TimeBeyondTheDeadline(b *testing.B) {
	for name, call := range map[string]struct {
		frozen bool
		run    func(ctx context.Context, pool *pgxpool.Pool) error
	}{
		"ping":   {true, func(ctx context.Context, pool *pgxpool.Pool) error { return pool.Ping(ctx) }},
		"exec":   {true, func(ctx context.Context, pool *pgxpool.Pool) error { _, err := pool.Exec(ctx, "select 1"); return err }},
		"listen": {false, listen},
	} {
		for validated, when := range map[bool]string{false: "/in use", true: "/idle"} {
			b.Run(name+when, func(b *testing.B) {
				server := faults.NewServer(b)
				db, err := pgfx.Open(pgfx.Config{URL: server.URL(), Timeouts: pgfx.TimeoutConfig{Connect: time.Minute}})
				require.NoError(b, err)
				defer func() { require.NoError(b, db.Close(context.Background())) }()
				require.NoError(b, db.Start(b.Context()))
				var total, longest time.Duration
				for b.Loop() {
					require.NoError(b, db.Pool().Ping(b.Context()))
					if validated {
						db.ValidateAlways()
					}
					if call.frozen {
						server.Freeze()
					}
					const deadline = 100 * time.Millisecond
					began := time.Now()
					ctx, cancel := context.WithTimeout(b.Context(), deadline)
					require.Error(b, call.run(ctx, db.Pool()))
					cancel()
					late := time.Since(began) - deadline
					total, longest = total+late, max(longest, late)
					db.ValidateIdle()
					if call.frozen {
						server.Thaw()
					}
				}
				b.ReportMetric(float64(total.Milliseconds())/float64(b.N), "ms-late")
				b.ReportMetric(float64(longest.Milliseconds()), "ms-latest")
			})
		}
	}
}

func listen(ctx context.Context, pool *pgxpool.Pool) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	_, err = conn.Conn().WaitForNotification(ctx)
	return err
}

package fxtest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// leakGrace is how long connections may still be held once the pool is closing. A worker that stops with the application
// releases its connection within it; a leaked one is not released by waiting longer.
const leakGrace = time.Second

// closeAndReport calls closeFn, which closes db, and reports leases that are not released and labelled goroutines that do not
// end.
func closeAndReport(tb testing.TB, db *pgfx.DB, label string, closeFn func(context.Context) error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
	defer cancel()
	leaked := make(chan []pgfx.Lease, 1)
	go func() { leaked <- leakedLeases(ctx, db, cancel) }()
	err := closeFn(ctx)
	cancel()
	if leases := <-leaked; len(leases) > 0 {
		for _, lease := range leases {
			tb.Errorf("fxtest: connection not released at the end of the test: %s\n%s", lease, formatStack(lease))
		}
		return
	}
	if err != nil {
		tb.Errorf("fxtest: close: %v", err)
	}
	reportGoroutines(tb, label)
}

// leakedLeases returns the leases that are held leakGrace after the DB has begun to close, and then calls cancel. It returns nil
// if ctx ends first, because everything is closed.
func leakedLeases(ctx context.Context, db *pgfx.DB, cancel func()) []pgfx.Lease {
	select {
	case <-db.Internals().Closing():
	case <-ctx.Done():
		return nil
	}
	timer := time.NewTimer(leakGrace)
	defer timer.Stop()
	select {
	case <-timer.C:
		leases := db.Leases()
		if len(leases) > 0 {
			cancel()
		}
		return leases
	case <-ctx.Done():
		return nil
	}
}

func formatStack(lease pgfx.Lease) string {
	var b strings.Builder
	for _, frame := range lease.Stack {
		fmt.Fprintf(&b, "\t%s\n\t\t%s:%d\n", frame.Function, frame.File, frame.Line)
	}
	return b.String()
}

// openConnection is a row of pg_stat_activity.
type openConnection struct {
	PID         uint32
	Application string
	Query       string
}

// reportOpenConnections reports client connections to the database that stay open. A backend exits shortly after its client
// has closed the connection, so connections are reported only after two seconds.
func reportOpenConnections(ctx context.Context, tb testing.TB, admin *pgx.Conn, database string) error {
	tb.Helper()
	const exitTimeout = 2 * time.Second
	deadline := time.Now().Add(exitTimeout)
	for {
		rows, err := admin.Query(ctx, `select pid, application_name, query from pg_stat_activity
			where datname = $1 and backend_type = 'client backend'`, database)
		if err != nil {
			return fmt.Errorf("pg_stat_activity: %w", err)
		}
		open, err := pgx.CollectRows(rows, pgx.RowToStructByPos[openConnection])
		if err != nil {
			return fmt.Errorf("pg_stat_activity: %w", err)
		}
		if len(open) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			for _, conn := range open {
				tb.Errorf("fxtest: connection to the test's database still open: backend %d, application %q, last statement: %s",
					conn.PID, conn.Application, conn.Query)
			}
			return nil
		}
		if _, err := admin.Exec(ctx, "select pg_sleep(0.005)"); err != nil {
			return fmt.Errorf("wait for backends to exit: %w", err)
		}
	}
}

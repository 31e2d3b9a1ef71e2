package fxtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// closeAndReport reports leases that are still held, calls closeFn, and reports labelled goroutines that are still running.
func closeAndReport(tb testing.TB, db *pgfx.DB, label string, closeFn func(context.Context) error) {
	tb.Helper()
	const leakTimeout = time.Second // a leaked connection is not released by waiting longer
	timeout := cleanupTimeout
	leases := db.Leases()
	for _, lease := range leases {
		tb.Errorf("fxtest: connection not released at the end of the test: %s\n%s", lease, formatStack(lease))
	}
	if len(leases) > 0 {
		timeout = leakTimeout
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	err := closeFn(ctx)
	if _, leaked := errors.AsType[*pgfx.CloseTimeoutError](err); err != nil && !leaked { // leaks were reported above
		tb.Errorf("fxtest: close: %v", err)
	}
	if len(leases) == 0 {
		reportGoroutines(tb, label)
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

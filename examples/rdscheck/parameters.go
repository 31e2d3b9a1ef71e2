package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// parameter is a line of the checklist in docs/rds-aurora.md. ok checks a value in the parameter's base unit.
type parameter struct {
	name, want string
	ok         func(value string) bool
}

// checklist returns the parameters to compare. The units are those of pg_settings: milliseconds or seconds.
func checklist() []parameter {
	const minute, second = 60_000, 1_000
	return []parameter{
		{"rds.force_ssl", "1", is("1", "on")},
		{"idle_in_transaction_session_timeout", "1 to 5 min", between(minute, 5*minute)},
		{"tcp_keepalives_idle", "300 s or less", between(1, 300)},
		{"client_connection_check_interval", "10 s", between(second, minute)},
		{"log_lock_waits", "on", is("on")},
		{"log_min_duration_statement", "1 s", between(0, 5*second)},
		{"track_io_timing", "on", is("on")},
		{"shared_preload_libraries", "contains pg_stat_statements", contains("pg_stat_statements")},
		{"synchronous_commit", "on", is("on", "remote_apply", "remote_write", "local")},
		{"default_toast_compression", "lz4", is("lz4")},
	}
}

func is(values ...string) func(string) bool {
	return func(value string) bool { return slices.Contains(values, value) }
}

func contains(part string) func(string) bool {
	return func(value string) bool { return strings.Contains(value, part) }
}

func between(low, high int) func(string) bool {
	return func(value string) bool {
		n, err := strconv.Atoi(value)
		return err == nil && n >= low && n <= high
	}
}

// checkParameters compares the server's parameters with the checklist. It reads the server's values, not those of the session.
func checkParameters(ctx context.Context, db *pgfx.DB) ([]row, error) {
	var rows []row
	for _, p := range checklist() {
		var value, unit *string
		err := db.Pool().QueryRow(ctx, "select max(reset_val), max(unit) from pg_settings where name = $1", p.name).Scan(&value, &unit)
		if err != nil {
			return nil, fmt.Errorf("read parameter %s: %w", p.name, err)
		}
		r := row{check: p.name, value: "not present"}
		if value != nil {
			r.value = *value
			if unit != nil {
				r.value += " " + *unit
			}
			if r.note = "ok"; !p.ok(*value) {
				r.note = "recommended: " + p.want
			}
		}
		rows = append(rows, r)
	}
	return rows, nil
}

package txn

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
)

const (
	markerTable       = "rdsfx_txn_markers"
	sweepInterval     = time.Hour
	createMarkerTable = `create table if not exists ` + markerTable + ` (
			id uuid primary key,
			written timestamptz not null default now(),
			aborted boolean not null default false
		)`
	sweepMarkers = "delete from " + markerTable + " where written < now() - interval '1 day'"
)

// queueMarker gives the transaction a marker and adds its insert to the batch.
func (r *resolver) queueMarker(ctx context.Context, conn *pgx.Conn, id *txIdentity, batch *pgx.Batch) (err error) {
	if err := r.ensureMarkerTable(ctx, conn); err != nil {
		return err
	}
	if id.marker, err = newMarker(); err != nil {
		return err
	}
	batch.Queue("insert into "+markerTable+" (id) values ($1)", id.marker)
	return nil
}

// newMarker returns a random UUID (RFC 9562, version 4).
func newMarker() (id [16]byte, err error) {
	if _, err = rand.Read(id[:]); err != nil {
		return id, fmt.Errorf("create a marker: %w", err)
	}
	id[6] = id[6]&0x0f | 0x40 //nolint:mnd // version 4
	id[8] = id[8]&0x3f | 0x80 //nolint:mnd // RFC 9562's variant
	return id, nil
}

// ensureMarkerTable creates the table if it doesn't exist, and has old markers deleted from time to time.
func (r *resolver) ensureMarkerTable(ctx context.Context, conn *pgx.Conn) error {
	if !r.markerTableExists.Load() {
		if err := ensureTable(ctx, conn, markerTable, createMarkerTable); err != nil {
			return err
		}
		r.markerTableExists.Store(true)
	}
	if isDue(&r.sweptAt) {
		r.inBackground(r.sweep)
	}
	return nil
}

// ensureTable creates a table with the script if it doesn't exist. The script is sent in one message and so is one transaction. It
// holds a lock because two concurrent CREATE TABLE IF NOT EXISTS can fail.
func ensureTable(ctx context.Context, conn *pgx.Conn, table, script string) error {
	var exists bool
	if err := conn.QueryRow(ctx, "select to_regclass($1) is not null", table).Scan(&exists); err != nil {
		return fmt.Errorf("check for table %s: %w", table, err)
	}
	if exists {
		return nil
	}
	_, err := conn.Exec(ctx, "set local synchronous_commit = on; select pg_advisory_xact_lock(hashtext('"+table+"')); "+script)
	if err != nil {
		return fmt.Errorf("create table %s: %w", table, err)
	}
	return nil
}

// isDue reports whether a sweep is due, once in each sweepInterval.
func isDue(last *atomic.Int64) bool {
	now, before := time.Now(), last.Load()
	return now.Sub(time.Unix(0, before)) > sweepInterval && last.CompareAndSwap(before, now.UnixNano())
}

// checkMarkerTable has the table created again if err reports that it was dropped.
func (r *resolver) checkMarkerTable(err error) {
	if sqlstate.Code(err) == sqlstate.UndefinedTable {
		r.markerTableExists.Store(false)
	}
}

func (r *resolver) sweep(ctx context.Context) {
	if _, err := r.m.pool.Exec(ctx, sweepMarkers); err != nil && ctx.Err() == nil {
		r.m.logger.Warn("cannot delete old commit markers", zap.Error(err))
	}
}

var errStandby = errors.New("the address leads to a standby")

// resolveByMarker queries the marker until the outcome is known or ctx ends. It keeps trying while the server is unreachable:
// the marker survives whatever happens to the server, or was never committed.
func (r *resolver) resolveByMarker(ctx context.Context, id *txIdentity) (outcome, error) {
	grace := time.Now().Add(inProgressGrace)
	return r.repeat(ctx, func(ctx context.Context, conn *pgx.Conn) (outcome, error) { return id.queryMarker(ctx, conn, grace) })
}

// queryMarker inserts the marker as that of an aborted transaction and then reads it. While the transaction is in progress the
// insert waits for it. So the transaction's own row is found, or it can never be written.
func (id *txIdentity) queryMarker(ctx context.Context, conn *pgx.Conn, grace time.Time) (outcome, error) {
	var standby bool
	if err := conn.QueryRow(ctx, "select pg_is_in_recovery()").Scan(&standby); err != nil {
		return unknown, fmt.Errorf("query the role of the server: %w", err)
	}
	if standby {
		return unknown, errStandby
	}
	for {
		err := id.insertAborted(ctx, conn)
		if err == nil {
			break
		}
		if sqlstate.Code(err) != sqlstate.QueryCanceled {
			return unknown, fmt.Errorf("insert the marker: %w", err)
		}
		if time.Now().After(grace) {
			if err := id.terminate(ctx, conn); err != nil {
				return unknown, err
			}
		}
	}
	var aborted bool
	err := conn.QueryRow(ctx, "select aborted from "+markerTable+" where id = $1", id.marker).Scan(&aborted)
	switch {
	case err != nil:
		return unknown, fmt.Errorf("query the marker: %w", err)
	case aborted:
		return rolledBack, nil
	}
	return committed, nil
}

// insertAborted inserts the marker as that of an aborted transaction unless the marker exists. Both statements are one message
// and so one transaction. The timeout is local to it, because a pooler may give the session to another client afterwards. No
// separate COMMIT can be lost.
func (id *txIdentity) insertAborted(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.PgConn().Exec(ctx, fmt.Sprintf("set local statement_timeout = %d; "+
		"insert into %s (id, aborted) values ('%x', true) on conflict do nothing",
		inProgressGrace.Milliseconds(), markerTable, id.marker)).ReadAll() // the marker is a UUID and needs no quoting
	return err //nolint:wrapcheck // the caller wraps it
}

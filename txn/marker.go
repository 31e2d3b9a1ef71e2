package txn

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
)

const (
	markerTable = "rdsfx_txn_markers"
	sweepEvery  = time.Hour
	// makeMarkerTable is one message, and so one transaction. The lock is there because two CREATE TABLE IF NOT EXISTS at the
	// same time collide.
	makeMarkerTable = `set local synchronous_commit = on;
		select pg_advisory_xact_lock(hashtext('` + markerTable + `'));
		create table if not exists ` + markerTable + ` (
			id uuid primary key,
			written timestamptz not null default now(),
			aborted boolean not null default false
		)`
	sweepMarkers = "delete from " + markerTable + " where written < now() - interval '1 day'"
)

// newMarker returns a random UUID (RFC 9562, version 4).
func newMarker() (id [16]byte, err error) {
	if _, err = rand.Read(id[:]); err != nil {
		return id, fmt.Errorf("make a marker: %w", err)
	}
	id[6] = id[6]&0x0f | 0x40 //nolint:mnd // version 4
	id[8] = id[8]&0x3f | 0x80 //nolint:mnd // RFC 9562's variant
	return id, nil
}

// makeTable makes the table for markers unless it is there, and has it swept now and then.
func (r *resolver) makeTable(ctx context.Context, conn *pgx.Conn) error {
	if !r.tableMade.Load() {
		var there bool
		if err := conn.QueryRow(ctx, "select to_regclass($1) is not null", markerTable).Scan(&there); err != nil {
			return fmt.Errorf("look for table %s: %w", markerTable, err)
		}
		if !there {
			if _, err := conn.Exec(ctx, makeMarkerTable); err != nil {
				return fmt.Errorf("create table %s: %w", markerTable, err)
			}
		}
		r.tableMade.Store(true)
	}
	now, last := time.Now(), r.swept.Load()
	if now.Sub(time.Unix(0, last)) > sweepEvery && r.swept.CompareAndSwap(last, now.UnixNano()) {
		r.inBackground(r.sweep)
	}
	return nil
}

func (r *resolver) sweep(ctx context.Context) {
	if _, err := r.m.pool.Exec(ctx, sweepMarkers); err != nil && ctx.Err() == nil {
		r.m.logger.Warn("old markers could not be removed", zap.Error(err))
	}
}

var errStandby = errors.New("the address leads to a standby")

// byMarker looks for the transaction's row until it knows. It keeps trying while the server is away: the row is there or
// not, whatever has happened to the server.
func (r *resolver) byMarker(ctx context.Context, d *doubt) (verdict, error) {
	grace := time.Now().Add(inProgressGrace)
	for {
		v, err := r.lookForMarker(ctx, d, grace)
		if v != undecided {
			return v, nil
		}
		if !sleep(ctx, lookAgain) {
			return undecided, err
		}
	}
}

// lookForMarker writes the row itself, as that of a transaction that has been aborted. Where the transaction is still in
// progress the insert waits for it. So either the row of the transaction is found, or it can never be written any more.
func (r *resolver) lookForMarker(ctx context.Context, d *doubt, grace time.Time) (verdict, error) {
	connecting, cancel := context.WithTimeout(ctx, witnessTimeout)
	conn, err := r.m.db.Connect(connecting, "outcome")
	cancel()
	if err != nil {
		return undecided, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // it has served its purpose
	var standby bool
	if err := conn.QueryRow(ctx, "select pg_is_in_recovery()").Scan(&standby); err != nil {
		return undecided, fmt.Errorf("ask for the role of the server: %w", err)
	}
	if standby {
		return undecided, errStandby
	}
	for {
		err := d.disown(ctx, conn)
		if err == nil {
			break
		}
		if sqlstate.Code(err) != sqlstate.QueryCanceled {
			return undecided, fmt.Errorf("look for the marker: %w", err)
		}
		if time.Now().After(grace) {
			if _, err := conn.Exec(ctx, endSession, d.pid, d.shortXID()); err != nil {
				return undecided, fmt.Errorf("the session that still commits can't be ended: %w", err)
			}
		}
	}
	var isAborted bool
	err = conn.QueryRow(ctx, "select aborted from "+markerTable+" where id = $1", d.marker).Scan(&isAborted)
	switch {
	case err != nil:
		return undecided, fmt.Errorf("look for the marker: %w", err)
	case isAborted:
		return aborted, nil
	}
	return committed, nil
}

// disown writes the row of an aborted transaction, unless there is one, and doesn't wait for long. Both statements are one
// message and so one transaction: the timeout goes with it, as a pooler may give the session to somebody else, and no COMMIT
// of its own can get lost.
func (d *doubt) disown(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.PgConn().Exec(ctx, fmt.Sprintf("set local statement_timeout = %d; "+
		"insert into %s (id, aborted) values ('%x', true) on conflict do nothing",
		inProgressGrace.Milliseconds(), markerTable, d.marker)).ReadAll() // a marker is a UUID
	return err //nolint:wrapcheck // the caller wraps it
}

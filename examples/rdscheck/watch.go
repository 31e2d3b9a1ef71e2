package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/rdsfx-go/rdsfx"
)

const createWatch = "create table if not exists rdscheck_watch (id bigint generated always as identity primary key, at timestamptz not null default now())"

// minGap is the time without a successful write from which a gap is printed.
const minGap = 200 * time.Millisecond

// watch writes a row at each interval until ctx ends. It prints each time during which writes failed: how long it lasted, how many
// writes failed, and where the first write after it went.
func watch(ctx context.Context, db *rdsfx.Database, out io.Writer, interval time.Duration) error {
	pool := db.DB.Pool()
	if _, err := pool.Exec(ctx, createWatch); err != nil {
		return fmt.Errorf("create the table: %w", err)
	}
	w := watcher{out: out}
	ticks := time.NewTicker(interval)
	defer ticks.Stop()
	for ctx.Err() == nil {
		var server string
		err := pool.QueryRow(ctx, "insert into rdscheck_watch default values returning coalesce(host(inet_server_addr()), 'socket')").Scan(&server)
		if ctx.Err() == nil {
			w.note(time.Now(), server, err)
		}
		select {
		case <-ticks.C:
		case <-ctx.Done():
		}
	}
	_, _ = fmt.Fprintf(out, "%d writes, %d failed, longest gap %v\n", w.writes, w.allFailed, w.longest)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if _, err := pool.Exec(ctx, "drop table rdscheck_watch"); err != nil {
		return fmt.Errorf("drop the table: %w", err)
	}
	return nil
}

// watcher finds gaps in a series of writes.
type watcher struct {
	out       io.Writer
	last      time.Time // end of the last write that succeeded
	server    string
	failed    int
	firstErr  error
	writes    int
	allFailed int
	longest   time.Duration
}

// note adds the result of a write that ended now.
func (w *watcher) note(now time.Time, server string, err error) {
	if err != nil {
		w.failed++
		w.allFailed++
		if w.firstErr == nil {
			w.firstErr = err
		}
		return
	}
	w.writes++
	if w.writes == 1 {
		_, _ = fmt.Fprintln(w.out, "writing; start a failover now, and end with an interrupt")
	} else if gap := now.Sub(w.last); gap >= minGap || w.failed > 0 {
		w.longest = max(w.longest, gap)
		_, _ = fmt.Fprintf(w.out, "%s  gap %v, %d writes failed, server %s → %s",
			now.Format("15:04:05.000"), gap.Round(time.Millisecond), w.failed, w.server, server)
		if w.firstErr != nil {
			_, _ = fmt.Fprintf(w.out, "; first error: %v", w.firstErr)
		}
		_, _ = fmt.Fprintln(w.out)
	}
	w.last, w.server, w.failed, w.firstErr = now, server, 0, nil
}

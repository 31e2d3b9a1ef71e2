package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

// Cluster is a primary and a standby that follows it by streaming replication, both the test's own. A server keeps its
// name for its whole life: what Primary returns is the server that began as the primary.
//
// Its methods may be used by several goroutines at once. Those that return no error end the test as t.Fatal does when they fail.
type Cluster struct {
	tb               testing.TB
	primary, standby *Server
}

// NewCluster starts a primary and a standby, both shaped by opts, and returns when the standby has caught up. Both are
// stopped and removed at the end of the test. Replication is asynchronous. See [NewServer], also for when the test is
// skipped.
//
// The standby begins as a copy of the primary's data directory while that is shut down, which needs no program but the
// server itself (PostgreSQL manual, "File System Level Backup").
func NewCluster(tb testing.TB, opts ...embedded.Option) *Cluster {
	tb.Helper()
	c := &Cluster{tb: tb, primary: NewServer(tb, opts...)}
	c.primary.Stop()
	home := newHome(tb)
	data := filepath.Join(home, "data")
	if err := copyTree(c.primary.server.DataDir(), data); err != nil {
		tb.Fatalf("faults: copy the primary: %v", err)
	}
	c.primary.Restart()
	if err := c.follow(data); err != nil {
		tb.Fatalf("faults: configure the standby: %v", err)
	}
	c.standby = startServer(tb, home, c.primary.secret, opts)
	ctx, cancel := faultContext()
	defer cancel()
	if err := c.AwaitReplay(ctx); err != nil {
		tb.Fatal(err)
	}
	return c
}

// follow makes the server in data a standby of the primary, which it reaches through the socket, where no password is asked for.
func (c *Cluster) follow(data string) error {
	socket, port, err := c.primary.socket()
	if err != nil {
		return err
	}
	like, err := os.Stat(filepath.Join(data, "PG_VERSION"))
	if err != nil {
		return err
	}
	signal := filepath.Join(data, "standby.signal")
	conninfo := fmt.Sprintf("host='%s' port=%d user=postgres application_name=standby", socket, port)
	return errors.Join(
		os.WriteFile(signal, nil, 0o600),
		giveLike(like, signal),
		appendLine(filepath.Join(data, "postgresql.conf"), "primary_conninfo = "+literal(conninfo)),
	)
}

func appendLine(file, line string) error {
	f, err := os.OpenFile(filepath.Clean(file), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString("\n" + line + "\n")
	return errors.Join(err, f.Close())
}

// Primary returns the server that began as the primary.
func (c *Cluster) Primary() *Server { return c.primary }

// Standby returns the server that began as the standby.
func (c *Cluster) Standby() *Server { return c.standby }

// Promote makes the standby a primary and returns when it takes writes. What it has received and not replayed yet, it replays
// first. It doesn't touch the old primary: see [Cluster.KillPrimary] and [Cluster.Demote].
func (c *Cluster) Promote() {
	c.tb.Helper()
	ctx, cancel := faultContext()
	defer cancel()
	if !ask[bool](ctx, c.standby, "select pg_promote(true, $1)", int(faultTimeout/time.Second)) {
		c.tb.Fatalf("faults: promote: the standby is no primary after %s", faultTimeout)
	}
}

// KillPrimary is [Server.Kill] for the primary.
func (c *Cluster) KillPrimary() {
	c.tb.Helper()
	c.primary.Kill()
}

// Demote is [Server.ReadOnly] for the primary: it takes no more writes, and its sessions stay alive. In a failover [Cluster.Promote]
// follows.
func (c *Cluster) Demote() {
	c.tb.Helper()
	c.primary.ReadOnly(true)
}

// Lag pauses the replay on the standby: reads there see what was committed before. What the primary commits is still
// received. Lag(false) lets the standby catch up, see [Cluster.AwaitReplay].
func (c *Cluster) Lag(paused bool) {
	c.tb.Helper()
	ctx, cancel := faultContext()
	defer cancel()
	statement, want := "select pg_wal_replay_resume()", "not paused"
	if paused {
		statement, want = "select pg_wal_replay_pause()", "paused"
	}
	c.standby.exec(ctx, statement)
	c.standby.await(ctx, "replay is "+want, func() (bool, error) {
		return ask[string](ctx, c.standby, "select pg_get_wal_replay_pause_state()") == want, nil
	})
}

// Detach ends the replication: what the primary commits from now on is lost if the standby is promoted.
// Detach(false) resumes it.
func (c *Cluster) DisconnectStandby(detached bool) {
	c.tb.Helper()
	ctx, cancel := faultContext()
	defer cancel()
	statement := "alter system reset primary_conninfo"
	if detached {
		statement = "alter system set primary_conninfo = ''"
	}
	c.standby.exec(ctx, statement, "select pg_reload_conf()")
	c.standby.await(ctx, "the replication stops or starts", func() (bool, error) {
		return ask[bool](ctx, c.standby, "select count(*) = 0 from pg_stat_wal_receiver") == detached, nil
	})
}

// AwaitReplay waits until reads on the standby see everything that has been committed on the primary by now. Its error
// says how far the standby is when ctx ends, or that it has been promoted.
func (c *Cluster) AwaitReplay(ctx context.Context) error {
	target, err := lookup[string](ctx, c.primary, "select pg_current_wal_lsn()::text")
	if err != nil {
		return fmt.Errorf("faults: await replay: the primary: %w", err)
	}
	for {
		state, err := lookup[string](ctx, c.standby, `select case when not pg_is_in_recovery() then 'promoted'
			when pg_last_wal_replay_lsn() >= $1::pg_lsn then 'done' else coalesce(pg_last_wal_replay_lsn()::text, 'nothing') end`, target)
		switch {
		case err != nil:
			return fmt.Errorf("faults: await replay: the standby: %w", err)
		case state == "promoted":
			return errors.New("faults: await replay: the standby has been promoted")
		case state == "done":
			return nil
		}
		select {
		case <-time.After(lookPause):
		case <-ctx.Done():
			return fmt.Errorf("faults: await replay: the standby has replayed %s of %s: %w", state, target, context.Cause(ctx))
		}
	}
}

// lookup is ask for callers that return errors.
func lookup[T any](ctx context.Context, s *Server, query string, args ...any) (value T, err error) {
	conn, err := s.session(ctx, nil)
	if err != nil {
		return value, err
	}
	defer endSessions(conn)
	err = conn.QueryRow(ctx, query, args...).Scan(&value)
	return value, err //nolint:wrapcheck // the caller says what for
}

// Resolver returns a name that leads to the primary until it is pointed elsewhere, as the writer endpoint of a cloud database
// does.
func (c *Cluster) Resolver() *Resolver {
	c.tb.Helper()
	return NewResolver(c.tb, "writer.cluster.test", c.primary.URL())
}

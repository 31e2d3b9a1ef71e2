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

// Cluster is a primary and a streaming standby that only this test uses. After a promotion, Primary and Standby still return
// the same servers as before.
//
// The methods may be called concurrently. Methods without an error result end the test on failure, as t.Fatal does.
type Cluster struct {
	tb               testing.TB
	primary, standby *Server
}

// NewCluster starts a primary and a standby with the given options and returns when the standby has caught up. Replication is
// asynchronous. Both servers are stopped and removed at the end of the test. The test is skipped in the same case as for
// [NewServer].
func NewCluster(tb testing.TB, opts ...embedded.Option) *Cluster {
	tb.Helper()
	c := &Cluster{tb: tb, primary: NewServer(tb, opts...)}
	c.standby = newStandbys(tb, c.primary, 1, opts)[0]
	ctx, cancel := withFaultTimeout()
	defer cancel()
	if err := c.AwaitReplay(ctx); err != nil {
		tb.Fatal(err)
	}
	return c
}

// newStandbys starts standbys of a primary, which it restarts. They have not caught up yet when it returns.
func newStandbys(tb testing.TB, primary *Server, n int, opts []embedded.Option) []*Server {
	tb.Helper()
	// Copying the data directory of a stopped server requires no other binary (PostgreSQL manual, "File System Level Backup").
	primary.Stop()
	dirs := make([]string, n)
	for i := range dirs {
		dirs[i] = newServerDir(tb)
		if err := copyTree(primary.server.DataDir(), filepath.Join(dirs[i], "data")); err != nil {
			tb.Fatalf("faults: copy the primary: %v", err)
		}
	}
	primary.Restart()
	standbys := make([]*Server, n)
	for i, dir := range dirs {
		if err := primary.configureStandby(filepath.Join(dir, "data"), "postgresql.conf"); err != nil {
			tb.Fatalf("faults: configure the standby: %v", err)
		}
		standbys[i] = startServer(tb, dir, primary.password, opts)
	}
	return standbys
}

// configureStandby makes the server in data a standby of s, with a setting in one of its configuration files.
func (s *Server) configureStandby(data, file string) error {
	conninfo, err := s.standbyConninfo()
	if err != nil {
		return err
	}
	owner, err := os.Stat(filepath.Join(data, "PG_VERSION"))
	if err != nil {
		return err
	}
	signal := filepath.Join(data, "standby.signal")
	return errors.Join(
		os.WriteFile(signal, nil, 0o600),
		copyOwner(owner, signal),
		appendLine(filepath.Join(data, file), "primary_conninfo = "+literal(conninfo)),
	)
}

// standbyConninfo returns how a standby connects to s: through the Unix socket, which requires no password.
func (s *Server) standbyConninfo() (string, error) {
	socketDir, port, err := s.socket()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("host='%s' port=%d user=postgres application_name=standby", socketDir, port), nil
}

func appendLine(file, line string) error {
	f, err := os.OpenFile(filepath.Clean(file), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString("\n" + line + "\n")
	return errors.Join(err, f.Close())
}

// Primary returns the server that started as the primary.
func (c *Cluster) Primary() *Server { return c.primary }

// Standby returns the server that started as the standby.
func (c *Cluster) Standby() *Server { return c.standby }

// Promote promotes the standby, which first replays all WAL that it has received, and returns when it accepts writes. It does
// not affect the old primary: see [Cluster.KillPrimary] and [Cluster.Demote].
func (c *Cluster) Promote() {
	c.tb.Helper()
	ctx, cancel := withFaultTimeout()
	defer cancel()
	c.standby.promote(ctx)
}

// promote makes a standby a primary.
func (s *Server) promote(ctx context.Context) {
	s.tb.Helper()
	if !mustQuery[bool](ctx, s, "select pg_promote(true, $1)", int(faultTimeout/time.Second)) {
		s.tb.Fatalf("faults: promote: the standby was not promoted within %s", faultTimeout)
	}
}

// KillPrimary calls [Server.Kill] for the primary.
func (c *Cluster) KillPrimary() {
	c.tb.Helper()
	c.primary.Kill()
}

// Demote makes the primary read-only and keeps its sessions, as [Server.ReadOnly] does. In a failover, call [Cluster.Promote]
// afterwards.
func (c *Cluster) Demote() {
	c.tb.Helper()
	c.primary.ReadOnly(true)
}

// Lag pauses replay on the standby, so reads there return older data. The standby still receives WAL from the primary.
// Lag(false) resumes replay; see [Cluster.AwaitReplay].
func (c *Cluster) Lag(paused bool) {
	c.tb.Helper()
	ctx, cancel := withFaultTimeout()
	defer cancel()
	statement, want := "select pg_wal_replay_resume()", "not paused"
	if paused {
		statement, want = "select pg_wal_replay_pause()", "paused"
	}
	c.standby.exec(ctx, statement)
	c.standby.await(ctx, "replay is "+want, func() (bool, error) {
		return mustQuery[string](ctx, c.standby, "select pg_get_wal_replay_pause_state()") == want, nil
	})
}

// DisconnectStandby stops replication. Commits on the primary from now on are lost if the standby is promoted.
// DisconnectStandby(false) resumes replication.
func (c *Cluster) DisconnectStandby(disconnected bool) {
	c.tb.Helper()
	ctx, cancel := withFaultTimeout()
	defer cancel()
	statement, state := "alter system reset primary_conninfo", "connected"
	if disconnected {
		statement, state = "alter system set primary_conninfo = ''", "disconnected"
	}
	c.standby.exec(ctx, statement, "select pg_reload_conf()")
	c.standby.await(ctx, "the standby is "+state, func() (bool, error) {
		return mustQuery[bool](ctx, c.standby, "select count(*) = 0 from pg_stat_wal_receiver") == disconnected, nil
	})
}

// AwaitReplay waits until reads on the standby return everything that is committed on the primary at the time of the call.
// It returns an error if ctx ends first, with the replay position, or if the standby has been promoted.
func (c *Cluster) AwaitReplay(ctx context.Context) error {
	return c.standby.awaitReplay(ctx, c.primary)
}

// awaitReplay is Cluster.AwaitReplay for a standby s.
func (s *Server) awaitReplay(ctx context.Context, primary *Server) error {
	target, err := query[string](ctx, primary, "select pg_current_wal_lsn()::text")
	if err != nil {
		return fmt.Errorf("faults: await replay: primary: %w", err)
	}
	for {
		state, err := query[string](ctx, s, `select case when not pg_is_in_recovery() then 'promoted'
			when pg_last_wal_replay_lsn() >= $1::pg_lsn then 'done' else coalesce(pg_last_wal_replay_lsn()::text, 'nothing') end`, target)
		switch {
		case err != nil:
			return fmt.Errorf("faults: await replay: standby: %w", err)
		case state == "promoted":
			return errors.New("faults: await replay: the standby has been promoted")
		case state == "done":
			return nil
		}
		select {
		case <-time.After(pollInterval):
		case <-ctx.Done():
			return fmt.Errorf("faults: await replay: the standby has replayed %s of %s: %w", state, target, context.Cause(ctx))
		}
	}
}

// Resolver returns a new resolver whose name resolves to the primary, like the writer endpoint of a cloud database.
func (c *Cluster) Resolver() *Resolver {
	c.tb.Helper()
	return NewResolver(c.tb, "writer.cluster.test", c.primary.URL())
}

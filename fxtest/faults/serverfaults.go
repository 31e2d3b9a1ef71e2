package faults

import (
	"context"
	"crypto/rand"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
)

// pollInterval is the interval between checks of a condition that sends no notification.
const pollInterval = 2 * time.Millisecond

// TerminateBackends terminates all other client sessions with SQLSTATE 57P01, as an administrator does. It returns their
// number when they have ended.
func (s *Server) TerminateBackends() int {
	s.tb.Helper()
	ctx, cancel := withFaultTimeout()
	defer cancel()
	return mustQuery[int](ctx, s, `select count(*) filter (where pg_terminate_backend(pid, $1)) from pg_stat_activity
		where backend_type = 'client backend' and pid <> pg_backend_pid()`, faultTimeout.Milliseconds())
}

// FillConnections opens connections until the server refuses the next one with SQLSTATE 53300, including those reserved for
// superusers. Connections that other clients close afterwards are available again.
//
// The returned function closes the connections and waits until they have ended. It may be called more than once, and is
// called at the end of the test.
//
// Each connection is a server process, so give the server a small max_connections.
func (s *Server) FillConnections() (release func()) {
	s.tb.Helper()
	ctx, cancel := withFaultTimeout()
	defer cancel()
	var (
		conns []*pgx.Conn
		once  sync.Once
	)
	release = func() { once.Do(func() { closeSessions(conns...) }) }
	s.tb.Cleanup(release)
	for {
		conn, err := s.session(ctx, nil)
		if sqlstate.Code(err) == sqlstate.TooManyConnections {
			return release
		}
		if err != nil {
			s.tb.Fatalf("faults: fill connections: %v", err)
		}
		conns = append(conns, conn)
	}
}

// closeSessions closes sessions and waits until their backends have exited: a backend's socket closes when it exits.
func closeSessions(conns ...*pgx.Conn) {
	ctx, cancel := withFaultTimeout()
	defer cancel()
	for _, conn := range conns {
		hijacked, err := conn.PgConn().Hijack()
		if err != nil {
			_ = conn.Close(ctx) // already closed
			continue
		}
		deadline, _ := ctx.Deadline()
		_ = hijacked.Conn.SetDeadline(deadline)
		_, _ = hijacked.Conn.Write([]byte{'X', 0, 0, 0, 4}) // Terminate; fails if the server was killed
		_, _ = io.Copy(io.Discard, hijacked.Conn)
		_ = hijacked.Conn.Close()
	}
}

// ReadOnly makes the server reject writes with SQLSTATE 25006 and keeps all sessions, like a writer that was demoted to a
// reader. ReadOnly(false) allows writes again. Sessions are affected from their next transaction on.
//
// It sets default_transaction_read_only. BEGIN READ WRITE and a session's own setting override it.
func (s *Server) ReadOnly(on bool) {
	s.tb.Helper()
	ctx, cancel := withFaultTimeout()
	defer cancel()
	statement, want := "alter system reset default_transaction_read_only", "off"
	if on {
		statement, want = "alter system set default_transaction_read_only = on", "on"
	}
	s.exec(ctx, statement, "select pg_reload_conf()")
	// The postmaster signals existing sessions before it applies the setting to new ones, so a new session is checked.
	s.await(ctx, "read only is "+want, func() (bool, error) {
		value, err := query[string](ctx, s, "show default_transaction_read_only")
		return value == want, err
	})
}

// await polls until the condition holds.
func (s *Server) await(ctx context.Context, description string, condition func() (bool, error)) {
	s.tb.Helper()
	for {
		done, err := condition()
		if err != nil {
			s.tb.Fatalf("faults: wait until %s: %v", description, err)
		}
		if done {
			return
		}
		select {
		case <-time.After(pollInterval):
		case <-ctx.Done():
			s.tb.Fatalf("faults: wait until %s: %v", description, context.Cause(ctx))
		}
	}
}

// RotatePassword changes the superuser's password and returns the new one, which [Server.URL] contains from now on. Logins
// with the old password fail with SQLSTATE 28P01. Existing sessions are not affected.
func (s *Server) RotatePassword() string {
	s.tb.Helper()
	ctx, cancel := withFaultTimeout()
	defer cancel()
	value := rand.Text()
	s.exec(ctx, setPassword(value))
	s.password.set(value)
	return value
}

// setPassword returns the statement that changes the password of the current role.
func setPassword(value string) string {
	return "alter role current_user password " + literal(value)
}

// literal returns text as an SQL string constant.
func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

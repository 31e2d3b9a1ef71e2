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

// lookPause is the time between two looks at something that can't be waited for.
const lookPause = 2 * time.Millisecond

// TerminateBackends ends all other sessions of clients, as an administrator does: with SQLSTATE 57P01. It returns when they are
// gone, and how many there were.
func (s *Server) TerminateBackends() int {
	s.tb.Helper()
	ctx, cancel := faultContext()
	defer cancel()
	return ask[int](ctx, s, `select count(*) filter (where pg_terminate_backend(pid, $1)) from pg_stat_activity
		where backend_type = 'client backend' and pid <> pg_backend_pid()`, faultTimeout.Milliseconds())
}

// FillConnections takes all connections that the server has left, those reserved for superusers too, so that the next
// client is refused with SQLSTATE 53300. What others give back later is free. release gives the connections back and
// returns when they are; it may be called more than once, and is at the end of the test.
//
// It takes as many processes as the server has connections: give the server a small max_connections.
func (s *Server) FillConnections() (release func()) {
	s.tb.Helper()
	ctx, cancel := faultContext()
	defer cancel()
	var (
		conns []*pgx.Conn
		once  sync.Once
	)
	release = func() { once.Do(func() { endSessions(conns...) }) }
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

// endSessions ends sessions and waits until nothing of them is left on the server: the end of its process is what closes a
// backend's socket.
func endSessions(conns ...*pgx.Conn) {
	ctx, cancel := faultContext()
	defer cancel()
	for _, conn := range conns {
		hijacked, err := conn.PgConn().Hijack()
		if err != nil {
			_ = conn.Close(ctx) // it is closed already
			continue
		}
		deadline, _ := ctx.Deadline()
		_ = hijacked.Conn.SetDeadline(deadline)
		_, _ = hijacked.Conn.Write([]byte{'X', 0, 0, 0, 4}) // Terminate; a server that was killed doesn't take it
		_, _ = io.Copy(io.Discard, hijacked.Conn)
		_ = hijacked.Conn.Close()
	}
}

// ReadOnly makes the server refuse to write, with SQLSTATE 25006, and leaves all sessions alive, as a writer that has become a
// reader does; ReadOnly(false) ends it. Sessions notice with their next transaction; one that is under way may go on.
//
// It sets default_transaction_read_only, so that whoever says BEGIN READ WRITE or has a setting of their own may still write.
func (s *Server) ReadOnly(on bool) {
	s.tb.Helper()
	ctx, cancel := faultContext()
	defer cancel()
	statement, want := "alter system reset default_transaction_read_only", "off"
	if on {
		statement, want = "alter system set default_transaction_read_only = on", "on"
	}
	s.exec(ctx, statement, "select pg_reload_conf()")
	s.await(ctx, "read only "+want, func() (bool, error) {
		// New sessions inherit what the postmaster has read, and it has told the others before it accepts a new one.
		conn, err := s.session(ctx, nil)
		if err != nil {
			return false, err
		}
		defer endSessions(conn)
		var value string
		err = conn.QueryRow(ctx, "show default_transaction_read_only").Scan(&value)
		return value == want, err //nolint:wrapcheck // await wraps it
	})
}

// await looks until something is so.
func (s *Server) await(ctx context.Context, what string, look func() (bool, error)) {
	s.tb.Helper()
	for {
		done, err := look()
		if err != nil {
			s.tb.Fatalf("faults: %s: %v", what, err)
		}
		if done {
			return
		}
		select {
		case <-time.After(lookPause):
		case <-ctx.Done():
			s.tb.Fatalf("faults: %s: it doesn't happen: %v", what, context.Cause(ctx))
		}
	}
}

// RotatePassword gives the superuser a new password and returns it: logins with the old one are refused from now on, with
// SQLSTATE 28P01, and sessions go on. [Server.URL] has the new one.
func (s *Server) RotatePassword() string {
	s.tb.Helper()
	ctx, cancel := faultContext()
	defer cancel()
	password := rand.Text()
	s.exec(ctx, setPassword(password))
	s.secret.set(password)
	return password
}

// setPassword returns the statement that sets the password of the role that runs it.
func setPassword(password string) string {
	return "alter role current_user password " + literal(password)
}

// literal writes a string constant.
func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

package faults

import (
	"context"
	"errors"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

// faultTimeout bounds each operation on a server, such as a start or a reload.
const faultTimeout = time.Minute

// Server is a PostgreSQL server that only this test uses, so the test may do anything to it. Its data survives
// [Server.Kill]. It is stopped and removed at the end of the test.
//
// The methods may be called concurrently. They end the test on failure, as t.Fatal does.
type Server struct {
	tb     testing.TB
	server *embedded.Server
	dir    string
	// password is the superuser's password. A standby shares it with its primary.
	password *password
	ca       authority

	// turn serializes operations on the processes.
	turn   sync.Mutex
	frozen []int // stopped processes
	// walMounted is set if the WAL has a separate file system. Guarded by turn.
	walMounted bool
}

// password is a password that can be changed concurrently.
type password struct {
	mu    sync.Mutex
	value string
}

func (p *password) get() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.value
}

func (p *password) set(value string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.value = value
}

// NewServer starts a server with the given options. It listens on a TCP port of 127.0.0.1, and its superuser has a password.
// Starting a server takes about a second, so let subtests share one where possible.
//
// Data is not flushed to disk, which is safe when the server crashes but not when the machine does.
//
// The test is skipped if RDSFX_POSTGRES_URL selects an existing server, because that server must not be harmed.
func NewServer(tb testing.TB, opts ...embedded.Option) *Server {
	tb.Helper()
	if os.Getenv(embedded.EnvURL) != "" {
		tb.Skipf("faults: the test needs its own server: unset %s to start one", embedded.EnvURL)
	}
	return startServer(tb, newServerDir(tb), &password{}, opts)
}

// serverSettings returns settings for a server whose data only has to survive a crash of the server.
func serverSettings() []embedded.Option {
	settings := map[string]string{
		"fsync": "off", "full_page_writes": "off", "wal_retrieve_retry_interval": "100ms",
		"wal_keep_size": "64MB", // or a standby could never catch up with a primary that has restarted
	}
	if hasMmap {
		settings["dynamic_shared_memory_type"] = "mmap" // in the data directory, so it is removed even after kill -9
	}
	opts := []embedded.Option{embedded.TCP()}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		opts = append(opts, embedded.Setting(name, settings[name]))
	}
	return opts
}

// startServer starts a server on the data in dir, which is initialized if necessary.
func startServer(tb testing.TB, dir string, pw *password, opts []embedded.Option) *Server {
	tb.Helper()
	ctx, cancel := withFaultTimeout()
	defer cancel()
	all := slices.Concat(serverSettings(), []embedded.Option{
		embedded.Persistent(filepath.Join(dir, "data")), embedded.RemoveWhenOrphaned(dir, dir+lockSuffix),
	}, opts)
	server, err := embedded.Start(ctx, all...)
	if err != nil {
		tb.Fatalf("faults: start a server: %v", err)
	}
	s := &Server{tb: tb, server: server, dir: dir, password: pw}
	if pw.get() == "" {
		pw.set(s.initialPassword())
	}
	tb.Cleanup(s.close)
	return s
}

func withFaultTimeout() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), faultTimeout)
}

func (s *Server) initialPassword() string {
	u, err := url.Parse(s.server.URL())
	if err != nil {
		return ""
	}
	value, _ := u.User.Password()
	return value
}

// URL returns the server's URL with the current password. Everything else in it stays the same.
func (s *Server) URL() string {
	u, err := url.Parse(s.server.URL())
	if err != nil {
		return s.server.URL()
	}
	u.User = url.UserPassword(u.User.Username(), s.password.get())
	return u.String()
}

// String describes the server without its password.
func (s *Server) String() string { return s.server.String() }

// Kill kills the postmaster and its backends with SIGKILL, as in a crash, and returns when they have exited. Committed
// transactions survive. If the server is down, Kill does nothing.
func (s *Server) Kill() {
	s.tb.Helper()
	s.turn.Lock()
	defer s.turn.Unlock()
	pid := s.server.PID()
	if pid == 0 {
		return
	}
	ctx, cancel := withFaultTimeout()
	defer cancel()
	if err := killServer(ctx, pid); err != nil {
		s.tb.Fatalf("faults: kill: %v", err)
	}
	s.frozen = nil
	_ = s.server.Stop(ctx) // waits for cleanup; its error is that the server has exited
	if pid := s.server.PID(); pid != 0 {
		s.tb.Fatalf("faults: kill: process %d is still running", pid)
	}
}

// Stop shuts the server down as an administrator does: sessions end with SQLSTATE 57P01. If the server is down, Stop does
// nothing.
func (s *Server) Stop() {
	s.tb.Helper()
	s.turn.Lock()
	defer s.turn.Unlock()
	if err := s.stopLocked(); err != nil {
		s.tb.Fatalf("faults: stop: %v", err)
	}
}

func (s *Server) stopLocked() error {
	if err := s.thawLocked(); err != nil {
		return err
	}
	ctx, cancel := withFaultTimeout()
	defer cancel()
	return s.server.Stop(ctx)
}

// Restart stops the server if it is running and starts it again, with the same URL and data. It returns when the server
// accepts connections, after crash recovery if necessary.
func (s *Server) Restart() {
	s.tb.Helper()
	s.turn.Lock()
	defer s.turn.Unlock()
	if err := s.stopLocked(); err != nil {
		s.tb.Fatalf("faults: restart: %v", err)
	}
	ctx, cancel := withFaultTimeout()
	defer cancel()
	if err := s.server.Start(ctx); err != nil {
		s.tb.Fatalf("faults: restart: %v", err)
	}
	if current := s.password.get(); current != s.initialPassword() && !s.inRecovery(ctx) {
		s.exec(ctx, setPassword(current)) // the start has reset it to the initial one
	}
}

// Freeze stops all processes of the server with SIGSTOP. The kernel still accepts connections, but the server does not
// reply. If the server is down or frozen, Freeze does nothing.
func (s *Server) Freeze() {
	s.tb.Helper()
	s.turn.Lock()
	defer s.turn.Unlock()
	pid := s.server.PID()
	if pid == 0 || len(s.frozen) > 0 {
		return
	}
	ctx, cancel := withFaultTimeout()
	defer cancel()
	frozen, err := freezeServer(ctx, pid)
	s.frozen = frozen
	if err != nil {
		s.tb.Fatalf("faults: freeze: %v", err)
	}
}

// Thaw resumes a frozen server.
func (s *Server) Thaw() {
	s.tb.Helper()
	s.turn.Lock()
	defer s.turn.Unlock()
	if err := s.thawLocked(); err != nil {
		s.tb.Fatalf("faults: thaw: %v", err)
	}
}

func (s *Server) thawLocked() error {
	frozen := s.frozen
	s.frozen = nil
	if len(frozen) == 0 {
		return nil
	}
	return thawServer(frozen)
}

func (s *Server) close() {
	s.turn.Lock()
	defer s.turn.Unlock()
	if err := s.stopLocked(); err != nil {
		s.tb.Errorf("faults: stop: %v", err)
	}
	if s.walMounted {
		if err := unmount(filepath.Join(s.dir, walDir)); err != nil {
			s.tb.Errorf("faults: unmount: %v", err)
		}
	}
}

// connect opens an administrative session that may write even if the server is read-only by default.
func (s *Server) connect(ctx context.Context) *pgx.Conn {
	s.tb.Helper()
	conn, err := s.session(ctx, map[string]string{"default_transaction_read_only": "off"})
	if err != nil {
		s.tb.Fatalf("faults: connect to the server: %v", err)
	}
	return conn
}

// session connects through the Unix socket where there is one, which requires no password and bypasses network faults.
func (s *Server) session(ctx context.Context, params map[string]string) (*pgx.Conn, error) {
	return s.sessionIn(ctx, "", params)
}

// sessionIn is session for another database than that of the URL, unless database is "".
func (s *Server) sessionIn(ctx context.Context, database string, params map[string]string) (*pgx.Conn, error) {
	if s.server.PID() == 0 {
		return nil, errors.New("the server is down: call Restart first")
	}
	config, err := pgx.ParseConfig(s.server.URL())
	if err != nil {
		return nil, err //nolint:wrapcheck // the caller adds the operation
	}
	if database != "" {
		config.Database = database
	}
	socketDir, port, err := s.socket()
	if err != nil {
		return nil, err
	}
	if socketDir != "" {
		config.Host, config.Port = socketDir, port
	}
	config.Password = s.password.get()
	config.RuntimeParams["application_name"] = "fxtest"
	maps.Copy(config.RuntimeParams, params)
	return pgx.ConnectConfig(ctx, config) //nolint:wrapcheck // the caller adds the operation
}

// socket returns the directory of the server's Unix socket, "" if there is none, and the port. They are in lines 5 and 4 of
// postmaster.pid (PostgreSQL manual, "Database File Layout").
func (s *Server) socket() (dir string, port uint16, err error) {
	content, err := os.ReadFile(filepath.Join(s.server.DataDir(), "postmaster.pid"))
	if err != nil {
		return "", 0, err
	}
	lines := strings.Split(string(content), "\n")
	if len(lines) < 5 {
		return "", 0, errors.New("postmaster.pid is incomplete")
	}
	number, err := strconv.ParseUint(lines[3], 10, 16)
	return lines[4], uint16(number), err
}

// exec runs statements in one session.
func (s *Server) exec(ctx context.Context, statements ...string) {
	s.tb.Helper()
	conn := s.connect(ctx)
	defer closeSessions(conn)
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			safe, _, _ := strings.Cut(statement, "'") // without the password
			s.tb.Fatalf("faults: %s: %v", strings.TrimSpace(safe), err)
		}
	}
}

// inRecovery reports whether the server is a standby.
func (s *Server) inRecovery(ctx context.Context) bool {
	s.tb.Helper()
	return mustQuery[bool](ctx, s, "select pg_is_in_recovery()")
}

// mustQuery returns the single value of a query and fails the test on an error.
func mustQuery[T any](ctx context.Context, s *Server, sql string, args ...any) T {
	s.tb.Helper()
	value, err := query[T](ctx, s, sql, args...)
	if err != nil {
		s.tb.Fatalf("faults: %s: %v", sql, err)
	}
	return value
}

// query returns the single value of a query.
func query[T any](ctx context.Context, s *Server, sql string, args ...any) (value T, err error) {
	conn, err := s.session(ctx, nil)
	if err != nil {
		return value, err
	}
	defer closeSessions(conn)
	err = conn.QueryRow(ctx, sql, args...).Scan(&value)
	return value, err //nolint:wrapcheck // the caller adds the operation
}

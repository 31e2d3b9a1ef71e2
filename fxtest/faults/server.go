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

// faultTimeout bounds everything that a fault waits for: a server that starts, stops or takes notice.
const faultTimeout = time.Minute

// Server is a PostgreSQL server of the test's own, to which everything may be done. Its data survive [Server.Kill]; it is
// stopped and removed at the end of the test.
//
// Its methods may be used by several goroutines at once. One that fails ends the test as t.Fatal does.
type Server struct {
	tb     testing.TB
	server *embedded.Server
	home   string
	// secret is the superuser's password, which a standby shares with its primary.
	secret *secret
	ca     authority

	// turn serialises what is done to the processes.
	turn   sync.Mutex
	frozen []int
}

// secret is a password that may change.
type secret struct {
	mu    sync.Mutex
	value string
}

func (s *secret) get() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.value
}

func (s *secret) set(value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.value = value
}

// NewServer starts a server of the test's own, as opts shape it. It listens on a TCP port of 127.0.0.1; its superuser has a
// password. Writes are not flushed to the disk, which a crash of the server doesn't need. A server takes about a second to
// make, so that tests share one where they can.
//
// The test is skipped when RDSFX_POSTGRES_URL names a server to test on: nobody's server is to be killed.
func NewServer(tb testing.TB, opts ...embedded.Option) *Server {
	tb.Helper()
	if os.Getenv(embedded.EnvURL) != "" {
		tb.Skipf("faults: the test does harm to its server and needs one of its own: unset %s to let it start one", embedded.EnvURL)
	}
	return startServer(tb, newHome(tb), &secret{}, opts)
}

// faultSettings make a server fast that must survive no more than its own death.
func faultSettings() []embedded.Option {
	settings := map[string]string{"fsync": "off", "full_page_writes": "off", "wal_retrieve_retry_interval": "100ms"}
	if canLock {
		settings["dynamic_shared_memory_type"] = "mmap" // in the data directory, so that nothing is left by kill -9
	}
	opts := []embedded.Option{embedded.TCP()}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		opts = append(opts, embedded.Setting(name, settings[name]))
	}
	return opts
}

// startServer starts a server on the data in home, which are made when there are none.
func startServer(tb testing.TB, home string, password *secret, opts []embedded.Option) *Server {
	tb.Helper()
	ctx, cancel := faultContext()
	defer cancel()
	all := slices.Concat(faultSettings(), []embedded.Option{
		embedded.Persistent(filepath.Join(home, "data")), embedded.RemoveWhenOrphaned(home, home+lockSuffix),
	}, opts)
	server, err := embedded.Start(ctx, all...)
	if err != nil {
		tb.Fatalf("faults: a server of the test's own: %v", err)
	}
	s := &Server{tb: tb, server: server, home: home, secret: password}
	if password.get() == "" {
		password.set(s.initialPassword())
	}
	tb.Cleanup(s.close)
	return s
}

func faultContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), faultTimeout)
}

func (s *Server) initialPassword() string {
	u, err := url.Parse(s.server.URL())
	if err != nil {
		return ""
	}
	password, _ := u.User.Password()
	return password
}

// URL returns the server's address with the password that is valid now. The rest of it stays the same for the server's
// whole life.
func (s *Server) URL() string {
	u, err := url.Parse(s.server.URL())
	if err != nil {
		return s.server.URL()
	}
	u.User = url.UserPassword(u.User.Username(), s.secret.get())
	return u.String()
}

// String describes the server without its password.
func (s *Server) String() string { return s.server.String() }

// Kill ends the postmaster and its backends with SIGKILL, as a crash of the machine would, and returns when they are gone.
// Acknowledged transactions survive. It does nothing when the server is down.
func (s *Server) Kill() {
	s.tb.Helper()
	s.turn.Lock()
	defer s.turn.Unlock()
	pid := s.server.PID()
	if pid == 0 {
		return
	}
	ctx, cancel := faultContext()
	defer cancel()
	if err := killServer(ctx, pid); err != nil {
		s.tb.Fatalf("faults: kill: %v", err)
	}
	s.frozen = nil
	_ = s.server.Stop(ctx) // returns when its keeper has cleaned up, with the error that the server ended by itself
	if pid := s.server.PID(); pid != 0 {
		s.tb.Fatalf("faults: kill: process %d is still there", pid)
	}
}

// Stop shuts the server down as an operator does: sessions end with SQLSTATE 57P01. It does nothing when the server is
// down.
func (s *Server) Stop() {
	s.tb.Helper()
	s.turn.Lock()
	defer s.turn.Unlock()
	if err := s.stop(); err != nil {
		s.tb.Fatalf("faults: %v", err)
	}
}

func (s *Server) stop() error {
	if err := s.thaw(); err != nil {
		return err
	}
	ctx, cancel := faultContext()
	defer cancel()
	return s.server.Stop(ctx)
}

// Restart starts the server again, at the same address and with the same data, after shutting it down when it runs. It
// returns when the server accepts connections, after recovery if it was killed.
func (s *Server) Restart() {
	s.tb.Helper()
	s.turn.Lock()
	defer s.turn.Unlock()
	if err := s.stop(); err != nil {
		s.tb.Fatalf("faults: restart: %v", err)
	}
	ctx, cancel := faultContext()
	defer cancel()
	if err := s.server.Start(ctx); err != nil {
		s.tb.Fatalf("faults: restart: %v", err)
	}
	if password := s.secret.get(); password != s.initialPassword() && !s.inRecovery(ctx) {
		s.exec(ctx, setPassword(password)) // the start has set the first one again
	}
}

// Freeze stops all processes of the server with SIGSTOP: connections are still accepted by the kernel, and nobody answers.
// It does nothing when the server is down or frozen.
func (s *Server) Freeze() {
	s.tb.Helper()
	s.turn.Lock()
	defer s.turn.Unlock()
	pid := s.server.PID()
	if pid == 0 || len(s.frozen) > 0 {
		return
	}
	ctx, cancel := faultContext()
	defer cancel()
	frozen, err := freezeServer(ctx, pid)
	s.frozen = frozen
	if err != nil {
		s.tb.Fatalf("faults: freeze: %v", err)
	}
}

// Thaw lets a frozen server go on where it was.
func (s *Server) Thaw() {
	s.tb.Helper()
	s.turn.Lock()
	defer s.turn.Unlock()
	if err := s.thaw(); err != nil {
		s.tb.Fatalf("faults: thaw: %v", err)
	}
}

func (s *Server) thaw() error {
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
	if err := s.stop(); err != nil {
		s.tb.Errorf("faults: %v", err)
	}
}

// admin opens a session of ours through the server's socket, where no password is asked for and no network fault happens.
// It may write whatever the server's defaults are.
func (s *Server) admin(ctx context.Context) *pgx.Conn {
	s.tb.Helper()
	conn, err := s.session(ctx, map[string]string{"default_transaction_read_only": "off"})
	if err != nil {
		s.tb.Fatalf("faults: connect to the test's own server: %v", err)
	}
	return conn
}

func (s *Server) session(ctx context.Context, params map[string]string) (*pgx.Conn, error) {
	if s.server.PID() == 0 {
		return nil, errors.New("the server is down: Restart it first")
	}
	config, err := pgx.ParseConfig(s.server.URL())
	if err != nil {
		return nil, err //nolint:wrapcheck // the caller says what for
	}
	socket, port, err := s.socket()
	if err != nil {
		return nil, err
	}
	if socket != "" {
		config.Host, config.Port = socket, port
	}
	config.Password = s.secret.get()
	config.RuntimeParams["application_name"] = "fxtest"
	maps.Copy(config.RuntimeParams, params)
	return pgx.ConnectConfig(ctx, config) //nolint:wrapcheck // the caller says what for
}

// socket returns the directory of the server's Unix socket, "" where there are none, and its port. They stand in the fifth and
// the fourth line of its pid file (PostgreSQL manual, "Database File Layout").
func (s *Server) socket() (dir string, port uint16, err error) {
	note, err := os.ReadFile(filepath.Join(s.server.DataDir(), "postmaster.pid"))
	if err != nil {
		return "", 0, err
	}
	lines := strings.Split(string(note), "\n")
	if len(lines) < 5 {
		return "", 0, errors.New("the server's pid file is incomplete")
	}
	number, err := strconv.ParseUint(lines[3], 10, 16)
	return lines[4], uint16(number), err
}

// exec runs statements one after the other.
func (s *Server) exec(ctx context.Context, statements ...string) {
	s.tb.Helper()
	conn := s.admin(ctx)
	defer endSessions(conn)
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			word, _, _ := strings.Cut(statement, "'") // not the password
			s.tb.Fatalf("faults: %s: %v", strings.TrimSpace(word), err)
		}
	}
}

// inRecovery reports whether the server is a standby.
func (s *Server) inRecovery(ctx context.Context) bool {
	s.tb.Helper()
	return ask[bool](ctx, s, "select pg_is_in_recovery()")
}

// ask returns the one value of a query.
func ask[T any](ctx context.Context, s *Server, query string, args ...any) T {
	s.tb.Helper()
	conn := s.admin(ctx)
	defer endSessions(conn)
	var value T
	if err := conn.QueryRow(ctx, query, args...).Scan(&value); err != nil {
		s.tb.Fatalf("faults: %s: %v", query, err)
	}
	return value
}

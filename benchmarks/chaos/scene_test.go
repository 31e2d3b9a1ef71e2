package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

const (
	// serverLimit bounds what the suite itself does on a server.
	serverLimit = 30 * time.Second
	// recoveryLimit bounds the time from the end of a fault until every application has committed again.
	recoveryLimit = time.Minute
	// stopLimit is longer than an in-doubt commit may take.
	stopLimit = outcomeTimeout + 2*closeTimeout
	// lostCommits is the percentage of commits that a background fault affects.
	lostCommits = 2
	// walSize is the size of the disk for WAL, in bytes.
	walSize = 192 << 20
)

// scene is a cluster with applications that work on it, from its start until its data is checked.
type scene struct {
	testing.TB

	random  *rand.Rand
	dir     string
	cluster *faults.Cluster
	proxies map[*faults.Server]*faults.Proxy
	writer  *faults.Server // the server that applications should reach
	// passwords are all that were ever valid.
	passwords []string

	processes []*process
	ended     []*process
	strikes   []strike
	failover  failover
	// walUnlimited is set if the disk for WAL can't be filled here.
	walUnlimited bool

	mu          sync.Mutex
	commitFault *rand.Rand // guarded by mu
}

// strike is one fault. Recovery counts from its end.
type strike struct {
	fault        string
	began, ended time.Time
}

// newScene starts a cluster and creates the bank.
func newScene(tb testing.TB, random *rand.Rand, lossless bool) *scene {
	tb.Helper()
	s := &scene{TB: tb, random: random, dir: tb.ArtifactDir(), proxies: make(map[*faults.Server]*faults.Proxy)}
	s.commitFault = rand.New(rand.NewPCG(random.Uint64(), 0))
	s.cluster = faults.NewCluster(tb,
		embedded.Setting("max_connections", "80"),
		embedded.Setting("deadlock_timeout", "50ms"),
		embedded.Setting("max_prepared_transactions", "10"),
		embedded.Setting("max_wal_size", "64MB"), embedded.Setting("min_wal_size", "32MB"))
	for _, server := range []*faults.Server{s.cluster.Primary(), s.cluster.Standby()} {
		s.proxies[server] = faults.NewProxy(tb, server.URL())
		if err := server.LimitWAL(walSize); err != nil {
			require.ErrorIs(tb, err, errors.ErrUnsupported)
			s.walUnlimited = true
		}
	}
	s.writer = s.cluster.Primary()
	s.createBank()
	if lossless {
		s.exec("alter system set synchronous_standby_names = 'standby'")
		s.exec("select pg_reload_conf()")
	}
	s.publishPassword(s.writer.URL())
	s.publishAddress()
	s.heal()
	return s
}

// createBank creates the tables of all applications.
func (s *scene) createBank() {
	s.Helper()
	for _, prefix := range prefixes {
		s.exec(fmt.Sprintf(bankSchema, prefix, initialBalance, bankAccounts))
	}
	s.exec(listSchema)
}

func (s *scene) file(name string) string { return filepath.Join(s.dir, name) }

// replaceFile writes a file that processes read at the same time.
func (s *scene) replaceFile(name, content string) {
	s.Helper()
	next := s.file(name + ".next")
	require.NoError(s, os.WriteFile(next, []byte(content), 0o600))
	require.NoError(s, os.Rename(next, s.file(name)))
}

// publishPassword gives the applications the password in a server's URL.
func (s *scene) publishPassword(serverURL string) {
	s.Helper()
	password, _ := s.parse(serverURL).User.Password()
	s.passwords = append(s.passwords, password)
	s.replaceFile("password", password)
}

// publishAddress makes the applications' name resolve to the writer.
func (s *scene) publishAddress() {
	s.Helper()
	s.replaceFile("address", s.parse(s.proxy().URL()).Host)
}

func (s *scene) parse(address string) *url.URL {
	s.Helper()
	u, err := url.Parse(address)
	if err != nil {
		s.Fatal("the server's URL can't be parsed")
	}
	return u
}

// proxy returns the proxy in front of the writer.
func (s *scene) proxy() *faults.Proxy { return s.proxies[s.writer] }

var commitFaults = []faults.CommitFault{
	faults.CommitDropped, faults.CommitHalfOpen, faults.CommitAckDropped, faults.CommitAckBlackHoled,
}

// heal ends the faults of the network, except that it goes on losing some commits and their replies.
func (s *scene) heal() {
	s.Helper()
	s.proxy().Heal()
	s.proxy().OnCommit(func() faults.CommitFault {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.commitFault.IntN(100) >= lostCommits {
			return faults.CommitPasses
		}
		return commitFaults[s.commitFault.IntN(len(commitFaults))]
	})
}

// start starts an application.
func (s *scene) start(kind string) {
	s.Helper()
	s.startWith(processConfig{Kind: kind, Seed: s.random.Uint64()})
}

// startWith completes the configuration of an application and starts it.
func (s *scene) startWith(config processConfig) {
	s.Helper()
	u := s.parse(s.writer.URL())
	u.User, u.Host = url.User(u.User.Username()), writerHost
	config.URL, config.Dir, config.AddressFile, config.PasswordFile = u.String(), s.dir, s.file("address"), s.file("password")
	config.Number = len(s.processes) + len(s.ended)
	config.Name = fmt.Sprintf("%s-%d", config.Kind, config.Number)
	s.processes = append(s.processes, startProcess(s, config))
}

// replace kills an application and starts another one. It also ends its sessions. A real server would notice the
// dead client within Timeouts.ClientLost, but the sockets of a proxy stay alive in a black hole.
func (s *scene) replace(p *process) {
	s.Helper()
	p.kill()
	s.exec(fmt.Sprintf("select pg_terminate_backend(pid) from pg_stat_activity where application_name like '%s%%'", p.config.Name))
	s.processes = slices.DeleteFunc(s.processes, func(other *process) bool { return other == p })
	s.ended = append(s.ended, p)
	s.start(p.config.Kind)
}

// stop ends the loss of commits, waits until the last ones have been resolved, and stops all applications.
func (s *scene) stop() {
	s.Helper()
	s.proxy().OnCommit(nil)
	time.Sleep(transferTimeout)
	began := time.Now()
	for _, p := range s.processes {
		_ = p.stdin.Close() // all at the same time
	}
	for _, p := range s.processes {
		p.stop(s, stopLimit)
		s.Logf("%s ended after %s", p.config.Name, rounded(time.Since(began)))
	}
	s.ended = append(s.ended, s.processes...)
	s.processes = nil
}

// hold lets a fault, or a calm period, last for a random time.
func (s *scene) hold(low, high time.Duration) {
	time.Sleep(low + time.Duration(s.random.Int64N(int64(high-low))))
}

// strike lets a fault happen and waits until the applications on this library work again.
func (s *scene) strike(f fault) {
	s.Helper()
	now := strike{fault: f.name, began: time.Now()}
	f.run(s)
	now.ended = time.Now()
	s.strikes = append(s.strikes, now)
	s.awaitRecovery()
	s.Logf("%s: %s, recovered after %s", f.name, rounded(now.ended.Sub(now.began)), rounded(time.Since(now.ended)))
	s.hold(200*time.Millisecond, time.Second)
}

func rounded(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

// awaitRecovery waits until each application on this library has stored another transfer.
func (s *scene) awaitRecovery() {
	s.Helper()
	want := 0
	for _, p := range s.processes {
		if p.config.Kind == "rdsfx" {
			want++
		}
	}
	last := queryValue[int64](s, s.writer.URL(), "select coalesce(max(seq), 0) from transfers")
	deadline := time.Now().Add(recoveryLimit)
	for {
		n := queryValue[int](s, s.writer.URL(), "select count(distinct split_part(id, '/', 1)) from transfers where seq > $1", last)
		if n >= want {
			return
		}
		if time.Now().After(deadline) {
			s.Fatalf("%d of %d applications work again %s after the fault %q", n, want, recoveryLimit, s.strikes[len(s.strikes)-1].fault)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// exec runs a script on the writer.
func (s *scene) exec(sql string) {
	s.Helper()
	withConn(s, s.writer.URL(), func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, sql)
		return err
	})
}

func serverContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), serverLimit)
}

// withConn calls use with a connection of the suite itself, which no fault affects.
func withConn(tb testing.TB, serverURL string, use func(ctx context.Context, conn *pgx.Conn) error) {
	tb.Helper()
	ctx, cancel := serverContext()
	defer cancel()
	config, err := pgx.ParseConfig(serverURL)
	require.NoError(tb, err)
	config.RuntimeParams["application_name"] = "suite"
	conn, err := pgx.ConnectConfig(ctx, config)
	require.NoError(tb, err)
	defer func() { _ = conn.Close(ctx) }()
	require.NoError(tb, use(ctx, conn))
}

func queryValue[T any](tb testing.TB, serverURL, sql string, args ...any) T {
	tb.Helper()
	values := queryRows(tb, serverURL, pgx.RowTo[T], sql, args...)
	require.Len(tb, values, 1)
	return values[0]
}

// queryRows returns all rows of a query.
func queryRows[T any](tb testing.TB, serverURL string, to pgx.RowToFunc[T], sql string, args ...any) (found []T) {
	tb.Helper()
	withConn(tb, serverURL, func(ctx context.Context, conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, sql, args...)
		if err == nil {
			found, err = pgx.CollectRows(rows, to)
		}
		return err
	})
	return found
}

//go:build unix

package txn_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
	"github.com/rdsfx-go/rdsfx/txn"
)

// The tests of in-doubt commits run many transactions concurrently and cause one fault during their COMMITs. Do must have
// returned nil only if the row is stored, and an error other than ErrOutcomeUnknown only if it is not stored.
//
// "make lost-commits" runs the long form. RDSFX_TXN_ROUNDS sets the number of in-doubt commits for each fault and each way to
// resolve them. RDSFX_TXN_SEED repeats a run.

// crowd is the number of transactions that run during one fault.
const crowd = 25

// suite is the state of one test: one fault and one way to resolve.
type suite struct {
	by     txn.CommitResolution
	want   int64 // in-doubt commits
	random *rand.Rand

	inDoubt             txn.InDoubt
	scenes              int
	acknowledged        int64 // commits that the server acknowledged
	lost, reused, wrong int
}

// eachResolution runs a test for each way to resolve.
func eachResolution(t *testing.T, run func(t *testing.T, s *suite)) {
	t.Helper()
	seed := envNumber(t, "RDSFX_TXN_SEED", rand.Uint64())
	for by, name := range map[txn.CommitResolution]string{txn.ByWitness: "witness", txn.ByMarker: "marker"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &suite{by: by, want: int64(envNumber(t, "RDSFX_TXN_ROUNDS", crowd)), random: rand.New(rand.NewPCG(seed, uint64(by)))}
			defer func() {
				t.Logf("seed %d: %d in-doubt commits in %d scenes: %d committed, %d aborted, %d unknown, %d wrong; "+
					"%d commits acknowledged, %d rows lost in crashes, %d transaction IDs reused",
					seed, s.inDoubt.Committed+s.inDoubt.Aborted+s.inDoubt.Unknown, s.scenes, s.inDoubt.Committed, s.inDoubt.Aborted, s.inDoubt.Unknown,
					s.wrong, s.acknowledged, s.lost, s.reused)
			}()
			run(t, s)
			assert.Zero(t, s.wrong)
		})
	}
}

// done reports whether there were enough in-doubt commits.
func (s *suite) done() bool { return s.inDoubt.Committed+s.inDoubt.Aborted+s.inDoubt.Unknown >= s.want }

// stage is a database with a proxy that causes the faults.
type stage struct {
	m      *txn.Manager
	proxy  *faults.Proxy
	direct string // URL of the server that has the final state after the fault
}

// newStage returns a stage for the database at this URL.
func (s *suite) newStage(t *testing.T, url string, opts ...txn.ManagerOption) *stage {
	t.Helper()
	proxy := faults.NewProxy(t, url)
	return &stage{proxy: proxy, direct: url, m: s.manage(t, proxy.URL(), nil, opts...)}
}

// manage returns a manager of a database with one connection for each transaction of the crowd. It doesn't use fxtest.DB, which
// would report a server that the test starts as a leftover of the database.
func (s *suite) manage(t *testing.T, url string, pool []pgfx.Option, opts ...txn.ManagerOption) *txn.Manager {
	t.Helper()
	db, err := pgfx.Open(pgfx.Config{
		URL: url, Pool: pgfx.PoolConfig{MaxConns: crowd}, Timeouts: pgfx.TimeoutConfig{Connect: waitTimeout},
	}, pool...)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
		defer cancel()
		assert.NoError(t, db.Close(ctx))
	})
	require.NoError(t, db.Start(t.Context()))
	_, err = db.Pool().Exec(t.Context(), makeEntries+"; create table other_writes (xid text default pg_current_xact_id()::text)")
	require.NoError(t, err)
	defaults := []txn.ManagerOption{txn.WithDefaults(txn.ResolveCommit(s.by)), txn.WithOutcomeTimeout(waitTimeout)}
	return managerOf(t, db, append(defaults, opts...)...)
}

// scene is one fault.
type scene struct {
	commitFaults []faults.CommitFault
	// async makes the server reply before a commit is on disk. A crash may then lose an acknowledged commit, so commitFaults
	// must withhold every reply.
	async bool
	// deadline is the timeout of each transaction, 0 for none.
	deadline time.Duration
	// strike is called when some of the COMMITs have been sent; with async, when all have been sent.
	strike func()
}

// play plays a scene and compares the result of each transaction with the stored rows.
func (s *suite) play(t *testing.T, at *stage, scene scene) {
	t.Helper()
	at.ready(t, s.by)
	s.scenes++
	before := at.m.Stats()
	names, xids, results := make([]string, crowd), make([]string, crowd), make([]error, crowd)
	var (
		muted   atomic.Int64
		sent    = make(chan struct{}, crowd)
		ended   = make(chan struct{}, crowd)
		workers sync.WaitGroup
	)
	random := rand.New(rand.NewPCG(s.random.Uint64(), 0))
	at.proxy.OnCommit(func() faults.CommitFault {
		fault := scene.commitFaults[random.IntN(len(scene.commitFaults))]
		if fault == faults.CommitAckBlackHoled {
			muted.Add(1)
		}
		select {
		case sent <- struct{}{}:
		default: // a COMMIT of the resolver, which await must not wait for
		}
		return fault
	})
	start := func(i int) {
		names[i] = fmt.Sprintf("%d/%d", s.scenes, i)
		workers.Go(func() {
			defer func() { ended <- struct{}{} }()
			results[i] = at.transact(names[i], &xids[i], scene)
		})
	}
	acknowledged := 0
	if scene.async {
		for i := range crowd { // one after another, so that the last ones are not yet on disk
			start(i)
			await(t, sent, ended)
		}
		acknowledged = at.awaitRows(t, names, int(muted.Load()))
	} else {
		for i := range crowd {
			start(i)
		}
		for range 1 + s.random.IntN(crowd) {
			await(t, sent, ended)
		}
	}
	if scene.strike != nil {
		scene.strike()
	}
	workers.Wait()
	at.proxy.OnCommit(nil)
	at.proxy.ResetConnections()
	s.compare(t, at, names, xids, results, acknowledged)
	s.count(before, at.m.Stats())
}

// transact runs one transaction of the crowd.
func (at *stage) transact(name string, xid *string, scene scene) error {
	ctx, cancel := context.WithTimeout(context.Background(), cmp.Or(scene.deadline, 3*waitTimeout))
	defer cancel()
	return at.m.Do(ctx, func(ctx context.Context) error {
		if scene.async {
			if _, err := at.m.Exec(ctx, "set local synchronous_commit = off"); err != nil {
				return err
			}
		}
		return at.m.QueryRow(ctx, "insert into entries values ($1) returning pg_current_xact_id()::text", name).Scan(xid)
	})
}

// await waits until one more COMMIT has been sent, or until one more transaction has ended.
func await(t *testing.T, sent, ended <-chan struct{}) {
	t.Helper()
	select {
	case <-sent:
	case <-ended:
	case <-time.After(waitTimeout):
		t.Error("no COMMIT was sent and no transaction ended")
	}
}

func (s *suite) count(before, after txn.Stats) {
	s.inDoubt.Committed += after.InDoubt.Committed - before.InDoubt.Committed
	s.inDoubt.Aborted += after.InDoubt.Aborted - before.InDoubt.Aborted
	s.inDoubt.Unknown += after.InDoubt.Unknown - before.InDoubt.Unknown
	s.acknowledged += after.Committed - before.Committed - (after.InDoubt.Committed - before.InDoubt.Committed)
}

// ready waits until the stage has recovered from the previous scene.
func (at *stage) ready(t *testing.T, by txn.CommitResolution) {
	t.Helper()
	at.m.ExpireWitness()
	require.Eventually(t, func() bool {
		if at.m.Do(t.Context(), func(context.Context) error { return nil }) != nil {
			return false
		}
		return by != txn.ByWitness || at.m.HasCheckedWitness()
	}, waitTimeout, 5*time.Millisecond, "the stage has not recovered")
	conns := make([]*pgxpool.Conn, crowd) // so that no transaction has to connect during the scene
	for i := range conns {
		var err error
		conns[i], err = at.m.DB().Pool().Acquire(t.Context())
		require.NoError(t, err)
	}
	for _, conn := range conns {
		conn.Release()
	}
}

// connect connects without the proxy, as soon as the server accepts connections.
func (at *stage) connect(t *testing.T) *pgx.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
	defer cancel()
	var conn *pgx.Conn
	const pause = 5 * time.Millisecond
	policy := pgfx.RetryPolicy{Idempotency: pgfx.Idempotent, MaxAttempts: pgfx.Off, Delay: pause, MaxDelay: pause}
	if err := pgfx.Retry(ctx, policy, func(ctx context.Context) (err error) {
		conn, err = pgx.Connect(ctx, at.direct)
		return err
	}); err != nil {
		t.Error(err)
		t.FailNow()
	}
	return conn
}

// stored returns which of the rows are stored after all transactions have ended.
func (at *stage) stored(t *testing.T, names []string) map[string]bool {
	t.Helper()
	conn := at.connect(t)
	defer func() { _ = conn.Close(context.Background()) }()
	require.Eventually(t, func() bool {
		var open int // only of this database, because the server may be shared
		err := conn.QueryRow(t.Context(), "select count(*) from pg_stat_activity "+
			"where backend_xid is not null and datname = current_database()").Scan(&open)
		return err == nil && open == 0
	}, waitTimeout, time.Millisecond, "transactions stay open")
	rows, err := conn.Query(t.Context(), "select name from entries where name = any($1)", names)
	require.NoError(t, err)
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	set := make(map[string]bool, len(found))
	for _, name := range found {
		set[name] = true
	}
	return set
}

// awaitRows waits until n of the rows are visible: their commits are done, but no reply has arrived.
func (at *stage) awaitRows(t *testing.T, names []string, n int) int {
	t.Helper()
	conn := at.connect(t)
	defer func() { _ = conn.Close(context.Background()) }()
	require.Eventually(t, func() bool {
		var visible int
		err := conn.QueryRow(t.Context(), "select count(*) from entries where name = any($1)", names).Scan(&visible)
		return err == nil && visible == n
	}, waitTimeout, time.Millisecond)
	return n
}

// compare reports wrong results. acknowledged is the number of rows that were visible before the fault.
func (s *suite) compare(t *testing.T, at *stage, names, xids []string, results []error, acknowledged int) {
	t.Helper()
	stored := at.stored(t, names)
	s.lost += max(0, acknowledged-len(stored))
	for i, name := range names {
		wrong := stored[name] != (results[i] == nil) && !errors.Is(results[i], txn.ErrOutcomeUnknown)
		if wrong {
			s.wrong++
			t.Errorf("row %s is stored: %v; Do returned: %v", name, stored[name], results[i])
		}
	}
	conn := at.connect(t)
	defer func() { _ = conn.Close(context.Background()) }()
	var reused int
	require.NoError(t, conn.QueryRow(t.Context(), "select count(*) from other_writes where xid = any($1)", xids).Scan(&reused))
	s.reused += reused
}

// writeOthers runs other transactions as soon as the server accepts connections. They get the transaction IDs that were lost.
func (at *stage) writeOthers(t *testing.T) {
	t.Helper()
	for done, deadline := 0, time.Now().Add(waitTimeout); done < 3*crowd && time.Now().Before(deadline); {
		conn := at.connect(t)
		for ; done < 3*crowd; done++ {
			if _, err := conn.Exec(context.Background(), "insert into other_writes default values"); err != nil {
				break // the server crashes only now
			}
		}
		_ = conn.Close(context.Background())
	}
}

// aftermath runs other transactions after a crash and resets the connections that still wait for a reply, later or at the same
// time.
func (s *suite) aftermath(t *testing.T, at *stage) {
	t.Helper()
	if s.random.IntN(2) == 0 {
		at.writeOthers(t)
		at.proxy.ResetConnections()
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { at.writeOthers(t) })
	at.proxy.ResetConnections()
	wg.Wait()
}

// anyFault lists the faults for COMMITs whose replies are reliable.
var anyFault = []faults.CommitFault{
	faults.CommitPasses, faults.CommitDropped, faults.CommitHalfOpen,
	faults.CommitAckDropped, faults.CommitAckDropped, faults.CommitAckBlackHoled,
}

// crashes plays scenes in which the server crashes, until there were enough.
func (s *suite) crashes(t *testing.T, at *stage, crash func()) {
	t.Helper()
	const most = 10 // scenes until something is lost, because the server may have written everything in time
	for i := 0; !s.done() || i < most && (s.lost == 0 || s.reused == 0); i++ {
		async := i%2 == 0
		commitFaults := anyFault
		if async {
			commitFaults = []faults.CommitFault{faults.CommitAckBlackHoled}
		}
		checkpoint(t, at)
		s.play(t, at, scene{commitFaults: commitFaults, async: async, strike: func() {
			crash()
			s.aftermath(t, at)
		}})
	}
	assert.Positive(t, s.lost, "a crash must lose visible rows")
	assert.Positive(t, s.reused, "transaction IDs must be reused")
}

// checkpoint writes all earlier commits to disk.
func checkpoint(t *testing.T, at *stage) {
	t.Helper()
	conn := at.connect(t)
	defer func() { _ = conn.Close(context.Background()) }()
	_, err := conn.Exec(t.Context(), "checkpoint")
	require.NoError(t, err)
}

// crashing returns the settings of a server that may crash: it restarts, and it writes asynchronous commits to disk late.
func crashing() []embedded.Option {
	return []embedded.Option{embedded.Setting("wal_writer_delay", "10s"), embedded.Setting("restart_after_crash", "on")}
}

func TestInDoubtCommit_LostReply(t *testing.T) {
	t.Parallel()
	eachResolution(t, func(t *testing.T, s *suite) {
		t.Helper()
		at := s.newStage(t, fxtest.URL(t))
		for !s.done() {
			s.play(t, at, scene{commitFaults: anyFault, deadline: 300 * time.Millisecond})
		}
		assert.Zero(t, s.inDoubt.Unknown, "the server has not failed")
		assert.Positive(t, s.inDoubt.Committed)
		assert.Positive(t, s.inDoubt.Aborted)
	})
}

func TestInDoubtCommit_KilledBackend(t *testing.T) {
	t.Parallel()
	eachResolution(t, func(t *testing.T, s *suite) {
		t.Helper()
		at := s.newStage(t, faults.NewServer(t, crashing()...).URL())
		s.crashes(t, at, func() {
			victim, other := at.connect(t), at.connect(t)
			defer func() {
				_ = victim.Close(context.Background())
				_ = other.Close(context.Background())
			}()
			require.NoError(t, syscall.Kill(int(victim.PgConn().PID()), syscall.SIGKILL))
			// When the server detects the crash, it ends all sessions. It accepts no new ones before it has recovered.
			ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
			defer cancel()
			for err := error(nil); err == nil && ctx.Err() == nil; {
				_, err = other.WaitForNotification(ctx)
			}
			assert.True(t, other.IsClosed(), "all sessions must end")
		})
	})
}

func TestInDoubtCommit_KilledServer(t *testing.T) {
	t.Parallel()
	eachResolution(t, func(t *testing.T, s *suite) {
		t.Helper()
		server := faults.NewServer(t, crashing()...)
		s.crashes(t, s.newStage(t, server.URL()), func() {
			server.Kill()
			server.Restart()
		})
	})
}

func TestInDoubtCommit_FrozenServer(t *testing.T) {
	t.Parallel()
	eachResolution(t, func(t *testing.T, s *suite) {
		t.Helper()
		server := faults.NewServer(t, crashing()...)
		at := s.newStage(t, server.URL(), txn.WithOutcomeTimeout(300*time.Millisecond))
		awaitInDoubt := func(before txn.InDoubt) { // or the end of all transactions
			require.Eventually(t, func() bool {
				now := at.m.Stats()
				return now.InDoubt != before || now.Active == 0
			}, waitTimeout, time.Millisecond)
		}
		want := s.want
		s.want /= 2
		for i := 0; !s.done() || i < 3; i++ {
			checkpoint(t, at)
			s.play(t, at, scene{commitFaults: anyFault, deadline: 300 * time.Millisecond, strike: func() {
				before := at.m.Stats().InDoubt
				server.Freeze()
				if i%3 > 0 {
					awaitInDoubt(before)
				}
				server.Thaw()
			}})
		}
		s.want = want
		s.crashes(t, at, func() { // killed while it is frozen
			before := at.m.Stats().InDoubt
			server.Freeze()
			if s.random.IntN(2) == 0 { // the first commits are resolved while it is frozen
				at.proxy.ResetConnections()
				awaitInDoubt(before)
			}
			server.Kill()
			server.Restart()
		})
	})
}

func TestInDoubtCommit_PromotedStandby(t *testing.T) {
	t.Parallel()
	eachResolution(t, func(t *testing.T, s *suite) {
		t.Helper()
		for i := 0; !s.done(); i++ {
			t.Run("cluster", func(t *testing.T) { s.promotion(t, i%2 == 0) })
		}
		assert.Positive(t, s.lost, "the standby must lack visible rows of the primary")
		assert.Positive(t, s.reused, "transaction IDs must be reused")
	})
}

// promotion plays the scene of a failover. A standby that lags has none of the rows of the crowd.
func (s *suite) promotion(t *testing.T, lagging bool) {
	t.Helper()
	cluster := faults.NewCluster(t, crashing()...)
	before, after := faults.NewProxy(t, cluster.Primary().URL()), faults.NewProxy(t, cluster.Standby().URL())
	name := faults.NewResolver(t, "writer.test", before.URL())
	at := &stage{m: s.manage(t, name.URL(), []pgfx.Option{name.Option()}), proxy: before, direct: cluster.Primary().URL()}
	at.ready(t, s.by)
	require.NoError(t, cluster.AwaitReplay(t.Context()))
	cluster.DisconnectStandby(lagging)
	// A reply that arrives is valid on the primary only. Every failover loses the commits that the standby lacks.
	commitFaults := []faults.CommitFault{faults.CommitAckBlackHoled, faults.CommitAckBlackHoled, faults.CommitDropped, faults.CommitHalfOpen}
	if lagging {
		commitFaults = commitFaults[:1]
	}
	s.play(t, at, scene{commitFaults: commitFaults, async: lagging, strike: func() {
		cluster.KillPrimary()
		cluster.Promote()
		name.Point(after.URL())
		at.direct = cluster.Standby().URL()
		s.aftermath(t, at)
	}})
}

func TestWitness_NeedNotRespond(t *testing.T) {
	t.Parallel()
	if os.Getenv(embedded.EnvURL) != "" {
		t.Skip("the processes of an external server can't be stopped")
	}
	m, proxy := newProxiedManager(t)
	var pid int
	require.NoError(t, m.QueryRow(t.Context(), "select pid "+witnessSessions).Scan(&pid))
	require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
	defer func() { _ = syscall.Kill(pid, syscall.SIGCONT) }()
	proxy.DropCommitAck()
	require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error { return insert(ctx, m, "x") }))
	assert.Equal(t, []string{"x"}, entries(t, m.DB()))
}

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

// The suite of lost commits: many transactions at once meet one fault at the moment of their COMMITs, and afterwards each of
// them must have been told the truth: nil only if its row is there, an error other than ErrOutcomeUnknown only if it isn't.
// "make lost-commits" runs the long form.
// RDSFX_TXN_ROUNDS is how many commits are to be in doubt for each fault and each way to resolve, RDSFX_TXN_SEED repeats a run.

// crowd is how many transactions meet one fault.
const crowd = 25

// suite is the part of the suite that belongs to one fault and one way to resolve.
type suite struct {
	by     txn.CommitResolution
	want   int64 // commits in doubt
	random *rand.Rand

	doubts              txn.InDoubt
	scenes              int
	acknowledged        int64 // commits that were answered
	lost, reused, wrong int
}

// eachResolution runs one part of the suite for each way to resolve.
func eachResolution(t *testing.T, run func(t *testing.T, s *suite)) {
	t.Helper()
	seed := number(t, "RDSFX_TXN_SEED", rand.Uint64())
	for by, name := range map[txn.CommitResolution]string{txn.ByWitness: "witness", txn.ByMarker: "marker"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &suite{by: by, want: int64(number(t, "RDSFX_TXN_ROUNDS", crowd)), random: rand.New(rand.NewPCG(seed, uint64(by)))}
			defer func() {
				t.Logf("seed %d: %d commits in doubt in %d scenes: %d committed, %d aborted, %d unknown, %d wrong; "+
					"%d commits were answered, %d rows were lost in a crash, %d transaction IDs used again",
					seed, s.doubts.Committed+s.doubts.Aborted+s.doubts.Unknown, s.scenes, s.doubts.Committed, s.doubts.Aborted, s.doubts.Unknown,
					s.wrong, s.acknowledged, s.lost, s.reused)
			}()
			run(t, s)
			assert.Zero(t, s.wrong)
		})
	}
}

// done reports whether there were enough commits in doubt.
func (s *suite) done() bool { return s.doubts.Committed+s.doubts.Aborted+s.doubts.Unknown >= s.want }

// stage is where a fault is met: a database behind a proxy.
type stage struct {
	m      *txn.Manager
	proxy  *faults.Proxy
	direct string // the address of the server that has the truth, when the fault is over
}

// newStage returns a stage in front of a server or a database.
func (s *suite) newStage(t *testing.T, url string, opts ...txn.ManagerOption) *stage {
	t.Helper()
	proxy := faults.NewProxy(t, url)
	return &stage{proxy: proxy, direct: url, m: s.manage(t, proxy.URL(), nil, opts...)}
}

// manage returns a manager of a database that takes the whole crowd. The database is opened here, since what a test starts
// meanwhile, such as a server, would be taken for its own.
func (s *suite) manage(t *testing.T, url string, pool []pgfx.Option, opts ...txn.ManagerOption) *txn.Manager {
	t.Helper()
	db, err := pgfx.Open(pgfx.Config{
		URL: url, Pool: pgfx.PoolConfig{MaxConns: crowd}, Timeouts: pgfx.TimeoutConfig{Connect: patience},
	}, pool...)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		assert.NoError(t, db.Close(ctx))
	})
	require.NoError(t, db.Start(t.Context()))
	_, err = db.Pool().Exec(t.Context(), makeEntries+"; create table strangers (xid text default pg_current_xact_id()::text)")
	require.NoError(t, err)
	return managerOf(t, db, append([]txn.ManagerOption{txn.WithDefaults(txn.ResolveCommit(s.by)), txn.WithOutcomeTimeout(patience)}, opts...)...)
}

// scene is one fault.
type scene struct {
	fates []faults.CommitFault
	// lazily makes the server answer before a commit is safe. What is answered then may be lost in a crash without anybody's
	// fault, so that fates must keep all answers back.
	lazily bool
	// deadline is that of each transaction's ctx, 0 for none.
	deadline time.Duration
	// strike is called when some of the COMMITs have been sent, with lazily all of them.
	strike func()
}

// play plays a scene and compares what each transaction was told with what is stored.
func (s *suite) play(t *testing.T, at *stage, scene scene) {
	t.Helper()
	at.ready(t, s.by)
	s.scenes++
	before := at.m.Stats()
	names, xids, told := make([]string, crowd), make([]string, crowd), make([]error, crowd)
	var (
		muted   atomic.Int64
		sent    = make(chan struct{}, crowd)
		ended   = make(chan struct{}, crowd)
		workers sync.WaitGroup
	)
	fates := rand.New(rand.NewPCG(s.random.Uint64(), 0))
	at.proxy.OnCommit(func() faults.CommitFault {
		fate := scene.fates[fates.IntN(len(scene.fates))]
		if fate == faults.CommitAckBlackHoled {
			muted.Add(1)
		}
		select {
		case sent <- struct{}{}:
		default: // whoever looks for a marker commits, too, and nobody waits for that
		}
		return fate
	})
	start := func(i int) {
		names[i] = fmt.Sprintf("%d/%d", s.scenes, i)
		workers.Go(func() {
			defer func() { ended <- struct{}{} }()
			told[i] = at.transact(names[i], &xids[i], scene)
		})
	}
	answered := 0
	if scene.lazily {
		for i := range crowd { // one after the other, so that all that the server has learnt of the last ones is unsafe
			start(i)
			await(t, sent, ended)
		}
		answered = at.awaitRows(t, names, int(muted.Load()))
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
	s.compare(t, at, names, xids, told, answered)
	s.count(before, at.m.Stats())
}

// transact runs one transaction of the crowd.
func (at *stage) transact(name string, xid *string, scene scene) error {
	ctx, cancel := context.WithTimeout(context.Background(), cmp.Or(scene.deadline, 3*patience))
	defer cancel()
	return at.m.Do(ctx, func(ctx context.Context) error {
		if scene.lazily {
			if _, err := at.m.Exec(ctx, "set local synchronous_commit = off"); err != nil {
				return err
			}
		}
		return at.m.QueryRow(ctx, "insert into entries values ($1) returning pg_current_xact_id()::text", name).Scan(xid)
	})
}

// await waits until one more COMMIT has been sent, or until a transaction has ended, perhaps without one.
func await(t *testing.T, sent, ended <-chan struct{}) {
	t.Helper()
	select {
	case <-sent:
	case <-ended:
	case <-time.After(patience):
		t.Error("no COMMIT is sent and no transaction ends")
	}
}

func (s *suite) count(before, after txn.Stats) {
	s.doubts.Committed += after.InDoubt.Committed - before.InDoubt.Committed
	s.doubts.Aborted += after.InDoubt.Aborted - before.InDoubt.Aborted
	s.doubts.Unknown += after.InDoubt.Unknown - before.InDoubt.Unknown
	s.acknowledged += after.Committed - before.Committed - (after.InDoubt.Committed - before.InDoubt.Committed)
}

// ready waits until the stage is as if nothing had happened before.
func (at *stage) ready(t *testing.T, by txn.CommitResolution) {
	t.Helper()
	at.m.ExpireWitness()
	require.Eventually(t, func() bool {
		if at.m.Do(t.Context(), func(context.Context) error { return nil }) != nil {
			return false
		}
		return by != txn.ByWitness || at.m.HasCheckedWitness()
	}, patience, 5*time.Millisecond, "the stage isn't ready")
	conns := make([]*pgxpool.Conn, crowd) // nobody has to connect when it matters
	for i := range conns {
		var err error
		conns[i], err = at.m.DB().Pool().Acquire(t.Context())
		require.NoError(t, err)
	}
	for _, conn := range conns {
		conn.Release()
	}
}

// connect connects past the proxy as soon as the server is there.
func (at *stage) connect(t *testing.T) *pgx.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var conn *pgx.Conn
	policy := pgfx.RetryPolicy{Idempotency: pgfx.Idempotent, MaxAttempts: pgfx.Off, Delay: 5 * time.Millisecond, MaxDelay: 5 * time.Millisecond}
	if err := pgfx.Retry(ctx, policy, func(ctx context.Context) (err error) {
		conn, err = pgx.Connect(ctx, at.direct)
		return err
	}); err != nil {
		t.Error(err)
		t.FailNow()
	}
	return conn
}

// stored returns which of the rows are there, when nobody writes any more.
func (at *stage) stored(t *testing.T, names []string) map[string]bool {
	t.Helper()
	conn := at.connect(t)
	defer func() { _ = conn.Close(context.Background()) }()
	require.Eventually(t, func() bool {
		var open int // in this database: the server may be shared
		err := conn.QueryRow(t.Context(), "select count(*) from pg_stat_activity "+
			"where backend_xid is not null and datname = current_database()").Scan(&open)
		return err == nil && open == 0
	}, patience, time.Millisecond, "transactions stay open")
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

// awaitRows waits until n of the rows are there for everybody: their commits have been carried out, and answered to nobody.
func (at *stage) awaitRows(t *testing.T, names []string, n int) int {
	t.Helper()
	conn := at.connect(t)
	defer func() { _ = conn.Close(context.Background()) }()
	require.Eventually(t, func() bool {
		var there int
		err := conn.QueryRow(t.Context(), "select count(*) from entries where name = any($1)", names).Scan(&there)
		return err == nil && there == n
	}, patience, time.Millisecond)
	return n
}

// compare finds wrong answers. answered is how many rows were there before the fault.
func (s *suite) compare(t *testing.T, at *stage, names, xids []string, told []error, answered int) {
	t.Helper()
	there := at.stored(t, names)
	s.lost += max(0, answered-len(there))
	for i, name := range names {
		wrong := there[name] != (told[i] == nil) && !errors.Is(told[i], txn.ErrOutcomeUnknown)
		if wrong {
			s.wrong++
			t.Errorf("row %s is there: %v; Do has returned: %v", name, there[name], told[i])
		}
	}
	conn := at.connect(t)
	defer func() { _ = conn.Close(context.Background()) }()
	var reused int
	require.NoError(t, conn.QueryRow(t.Context(), "select count(*) from strangers where xid = any($1)", xids).Scan(&reused))
	s.reused += reused
}

// strangers lets others write as soon as the server is there: they get the transaction IDs that were lost.
func (at *stage) strangers(t *testing.T) {
	t.Helper()
	for done, deadline := 0, time.Now().Add(patience); done < 3*crowd && time.Now().Before(deadline); {
		conn := at.connect(t)
		for ; done < 3*crowd; done++ {
			if _, err := conn.Exec(context.Background(), "insert into strangers default values"); err != nil {
				break // it crashes only now
			}
		}
		_ = conn.Close(context.Background())
	}
}

// aftermath is what follows a crash: strangers write, and those who still wait for an answer learn that their connections are
// lost, later or meanwhile.
func (s *suite) aftermath(t *testing.T, at *stage) {
	t.Helper()
	if s.random.IntN(2) == 0 {
		at.strangers(t)
		at.proxy.ResetConnections()
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { at.strangers(t) })
	at.proxy.ResetConnections()
	wg.Wait()
}

// anyFate is what may become of COMMITs whose answers are true.
var anyFate = []faults.CommitFault{
	faults.CommitPasses, faults.CommitDropped, faults.CommitHalfOpen, faults.CommitAckDropped, faults.CommitAckDropped, faults.CommitAckBlackHoled,
}

// crashes plays scenes in which a server crashes, until there were enough.
func (s *suite) crashes(t *testing.T, at *stage, crash func()) {
	t.Helper()
	const most = 10 // scenes until something is lost: the server may have written all in time
	for i := 0; !s.done() || i < most && (s.lost == 0 || s.reused == 0); i++ {
		lazily := i%2 == 0
		fates := anyFate
		if lazily {
			fates = []faults.CommitFault{faults.CommitAckBlackHoled}
		}
		checkpoint(t, at)
		s.play(t, at, scene{fates: fates, lazily: lazily, strike: func() {
			crash()
			s.aftermath(t, at)
		}})
	}
	assert.Positive(t, s.lost, "a crash must undo what the server has carried out")
	assert.Positive(t, s.reused, "transaction IDs must be used again")
}

// checkpoint makes safe what was done so far.
func checkpoint(t *testing.T, at *stage) {
	t.Helper()
	conn := at.connect(t)
	defer func() { _ = conn.Close(context.Background()) }()
	_, err := conn.Exec(t.Context(), "checkpoint")
	require.NoError(t, err)
}

// crashing are the settings of a server that may crash. What is committed lazily is not safe for long.
func crashing() []embedded.Option {
	return []embedded.Option{embedded.Setting("wal_writer_delay", "10s"), embedded.Setting("restart_after_crash", "on")}
}

func TestALostAnswerIsNeverMisreported(t *testing.T) {
	t.Parallel()
	eachResolution(t, func(t *testing.T, s *suite) {
		t.Helper()
		at := s.newStage(t, fxtest.URL(t))
		for !s.done() {
			s.play(t, at, scene{fates: anyFate, deadline: 300 * time.Millisecond})
		}
		assert.Zero(t, s.doubts.Unknown, "nothing has happened to the server")
		assert.Positive(t, s.doubts.Committed)
		assert.Positive(t, s.doubts.Aborted)
	})
}

func TestACommitMetByAKilledBackendIsNeverMisreported(t *testing.T) {
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
			// The server ends all sessions when it has noticed, and takes no new ones before it has recovered.
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			for err := error(nil); err == nil && ctx.Err() == nil; {
				_, err = other.WaitForNotification(ctx)
			}
			assert.True(t, other.IsClosed(), "all sessions must end")
		})
	})
}

func TestACommitMetByAKilledServerIsNeverMisreported(t *testing.T) {
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

func TestACommitMetByAFrozenServerIsNeverMisreported(t *testing.T) {
	t.Parallel()
	eachResolution(t, func(t *testing.T, s *suite) {
		t.Helper()
		server := faults.NewServer(t, crashing()...)
		at := s.newStage(t, server.URL(), txn.WithOutcomeTimeout(300*time.Millisecond))
		shows := func(before txn.InDoubt) { // unless all have ended already
			require.Eventually(t, func() bool {
				now := at.m.Stats()
				return now.InDoubt != before || now.Active == 0
			}, patience, time.Millisecond)
		}
		want := s.want
		s.want /= 2
		for i := 0; !s.done() || i < 3; i++ {
			checkpoint(t, at)
			s.play(t, at, scene{fates: anyFate, deadline: 300 * time.Millisecond, strike: func() {
				before := at.m.Stats().InDoubt
				server.Freeze()
				if i%3 > 0 {
					shows(before)
				}
				server.Thaw()
			}})
		}
		s.want = want
		s.crashes(t, at, func() { // it never comes back to itself
			before := at.m.Stats().InDoubt
			server.Freeze()
			if s.random.IntN(2) == 0 { // the first ones resolve while it is frozen
				at.proxy.ResetConnections()
				shows(before)
			}
			server.Kill()
			server.Restart()
		})
	})
}

func TestACommitMetByAPromotionIsNeverMisreported(t *testing.T) {
	t.Parallel()
	eachResolution(t, func(t *testing.T, s *suite) {
		t.Helper()
		for i := 0; !s.done(); i++ {
			t.Run("cluster", func(t *testing.T) { s.promotion(t, i%2 == 0) })
		}
		assert.Positive(t, s.lost, "the standby must lack what the primary has carried out")
		assert.Positive(t, s.reused, "transaction IDs must be used again")
	})
}

// promotion plays the scene of a failover. When the standby is behind it lacks all that the crowd writes.
func (s *suite) promotion(t *testing.T, behind bool) {
	t.Helper()
	cluster := faults.NewCluster(t, crashing()...)
	before, after := faults.NewProxy(t, cluster.Primary().URL()), faults.NewProxy(t, cluster.Standby().URL())
	name := faults.NewResolver(t, "writer.test", before.URL())
	at := &stage{m: s.manage(t, name.URL(), []pgfx.Option{name.Option()}), proxy: before, direct: cluster.Primary().URL()}
	at.ready(t, s.by)
	require.NoError(t, cluster.AwaitReplay(t.Context()))
	cluster.DisconnectStandby(behind)
	// An answer that arrives is true of the primary. What of it the standby lacks is lost in any failover.
	fates := []faults.CommitFault{faults.CommitAckBlackHoled, faults.CommitAckBlackHoled, faults.CommitDropped, faults.CommitHalfOpen}
	if behind {
		fates = fates[:1]
	}
	s.play(t, at, scene{fates: fates, lazily: behind, strike: func() {
		cluster.KillPrimary()
		cluster.Promote()
		name.Point(after.URL())
		at.direct = cluster.Standby().URL()
		s.aftermath(t, at)
	}})
}

func TestAWitnessThatDoesntAnswerInTimeIsNone(t *testing.T) {
	t.Parallel()
	if os.Getenv(embedded.EnvURL) != "" {
		t.Skip("the processes of a server that isn't ours can't be stopped")
	}
	m, proxy := doubtful(t, txn.WithOutcomeTimeout(50*time.Millisecond))
	var pid int
	require.NoError(t, m.QueryRow(t.Context(), "select pid "+witnessSessions).Scan(&pid))
	require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
	defer func() { _ = syscall.Kill(pid, syscall.SIGCONT) }()
	proxy.DropCommitAck()
	err := m.Do(t.Context(), func(ctx context.Context) error { return insert(ctx, m, "x") })
	require.ErrorIs(t, err, txn.ErrOutcomeUnknown)
	assert.Equal(t, []string{"x"}, entries(t, m.DB()))
}

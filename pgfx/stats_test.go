package pgfx_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// statementOf returns the totals of one normalized text.
func statementOf(t *testing.T, db *pgfx.DB, text string) pgfx.Statement {
	t.Helper()
	list := db.Statements()
	i := slices.IndexFunc(list, func(s pgfx.Statement) bool { return s.Text == text })
	require.NotEqual(t, -1, i, "%q is not among %v", text, textsOf(list))
	return list[i]
}

func textsOf(list []pgfx.Statement) []string {
	all := make([]string, len(list))
	for i, s := range list {
		all[i] = s.Text
	}
	return all
}

func TestStatements_CountByNormalizedText(t *testing.T) {
	t.Parallel()
	db := started(t, serverConfig())
	for i := range 10 {
		_, err := db.Pool().Exec(t.Context(), fmt.Sprintf("select  g from generate_series(1, %d) g -- no. %d", i, i))
		require.NoError(t, err)
	}
	_, err := db.Pool().Exec(t.Context(), "select g from generate_series($1, $2::int) g", 1, 5)
	require.NoError(t, err)
	s := statementOf(t, db, "select g from generate_series(?, ?) g")
	assert.EqualValues(t, 10, s.Count)
	assert.EqualValues(t, 45, s.Rows)
	assert.Zero(t, s.Errors)
	assert.Positive(t, s.P50)
	assert.GreaterOrEqual(t, s.Total, s.Max)
	assert.Less(t, s.Total, 11*s.Max)
	assert.WithinRange(t, s.Since, time.Now().Add(-time.Minute), time.Now())
	assert.EqualValues(t, 5, statementOf(t, db, "select g from generate_series(?, ?::int) g").Rows)

	_, err = db.Pool().Exec(t.Context(), "select 1/0")
	require.Error(t, err)
	assert.EqualValues(t, 1, statementOf(t, db, "select ?/?").Errors)

	_, err = db.Pool().Exec(t.Context(), "select pg_sleep(0.05)")
	require.NoError(t, err)
	list := db.Statements()
	assert.Contains(t, textsOf(list), "select pg_sleep(?)")
	largestFirst := func(a, b pgfx.Statement) int { return cmp.Compare(b.Total, a.Total) }
	assert.True(t, slices.IsSortedFunc(list, largestFirst))
}

func TestStatements_CountBatchesAndCopies(t *testing.T) {
	t.Parallel()
	db := started(t, serverConfig())
	base := db.Stats().Statements.Count
	batch := &pgx.Batch{}
	batch.Queue("select g from generate_series(1, 3) g")
	batch.Queue("select g from generate_series(1, 4) g")
	batch.Queue("select 'other'")
	require.NoError(t, db.Pool().SendBatch(t.Context(), batch).Close())
	assert.EqualValues(t, 1, db.Stats().Statements.Count-base, "a batch is one statement of the totals")
	series := statementOf(t, db, "select g from generate_series(?, ?) g")
	assert.EqualValues(t, 2, series.Count)
	assert.EqualValues(t, 7, series.Rows)
	assert.EqualValues(t, 1, statementOf(t, db, "select ?").Rows)

	require.NoError(t, db.AcquireFunc(t.Context(), func(ctx context.Context, conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, "create temporary table copied (id int)"); err != nil {
			return err
		}
		_, err := conn.CopyFrom(ctx, pgx.Identifier{"copied"}, []string{"id"}, pgx.CopyFromRows([][]any{{int32(1)}, {int32(2)}}))
		return err
	}))
	assert.EqualValues(t, 2, statementOf(t, db, `copy "copied" from stdin`).Rows)

	failing := &pgx.Batch{}
	failing.Queue("select 1/0")
	failing.Queue("select 'never'")
	require.Error(t, db.Pool().SendBatch(t.Context(), failing).Close())
	assert.EqualValues(t, 1, statementOf(t, db, "select ?/?").Errors)

	errors := db.Stats().Statements.Errors
	unsent := &pgx.Batch{}
	unsent.Queue("select nobody_knows_this, $1::int", 1)
	require.Error(t, db.Pool().SendBatch(t.Context(), unsent).Close())
	assert.EqualValues(t, 1, db.Stats().Statements.Errors-errors, "pgx reports the end of a batch twice if it could not be sent")
}

func TestStatements_KeepThoseWithTheLargestTotal(t *testing.T) {
	t.Parallel()
	cfg := serverConfig()
	cfg.Stats.Statements = 8
	db := started(t, cfg)
	_, err := db.Pool().Exec(t.Context(), "select pg_sleep(1)")
	require.NoError(t, err)
	for i := range 50 {
		_, err := db.Pool().Exec(t.Context(), fmt.Sprintf("select 1 as c%d", i))
		require.NoError(t, err)
	}
	list := db.Statements()
	assert.Len(t, list, 8)
	assert.Contains(t, textsOf(list), "select pg_sleep(?)")
	assert.Contains(t, textsOf(list), "select ? as c49", "the latest text")
	evicted := db.Stats().Statements.Evicted
	assert.GreaterOrEqual(t, evicted, int64(43))

	gone := 0
	for slices.Contains(textsOf(list), fmt.Sprintf("select ? as c%d", gone)) {
		gone++
	}
	_, err = db.Pool().Exec(t.Context(), fmt.Sprintf("select 1 as c%d", gone))
	require.NoError(t, err)
	assert.EqualValues(t, 1, statementOf(t, db, fmt.Sprintf("select ? as c%d", gone)).Count, "the connection's cached entry was evicted")
	assert.Equal(t, evicted+1, db.Stats().Statements.Evicted)
}

func TestStatements_CountTextsThatAreNotCached(t *testing.T) {
	t.Parallel()
	db := started(t, serverConfig())
	require.NoError(t, db.AcquireFunc(t.Context(), func(ctx context.Context, conn *pgx.Conn) error {
		for i := range 600 { // more than a connection caches
			if _, err := conn.Exec(ctx, fmt.Sprintf("select %d as many", i), pgx.QueryExecModeSimpleProtocol); err != nil {
				return err
			}
		}
		long := "select '" + strings.Repeat("x", 5000) + "' as long"
		for range 2 {
			if _, err := conn.Exec(ctx, long, pgx.QueryExecModeSimpleProtocol); err != nil {
				return err
			}
		}
		return nil
	}))
	assert.EqualValues(t, 600, statementOf(t, db, "select ? as many").Count)
	assert.EqualValues(t, 2, statementOf(t, db, "select ? as long").Count)
}

func TestStatements_IgnoreThoseRefusedAsBusy(t *testing.T) {
	t.Parallel()
	db := started(t, serverConfig())
	base := db.Stats().Statements
	require.NoError(t, db.AcquireFunc(t.Context(), func(ctx context.Context, conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, "select g from generate_series(1, 3) g")
		require.NoError(t, err)
		_, err = conn.Exec(ctx, "select 'in between'")
		require.ErrorContains(t, err, "conn busy")
		assert.Equal(t, "select g from generate_series(?, ?) g", db.Leases()[0].Statement)
		rows.Close()
		return rows.Err()
	}))
	now := db.Stats().Statements
	assert.EqualValues(t, 2, now.Count-base.Count)
	assert.EqualValues(t, 1, now.Errors-base.Errors)
	assert.EqualValues(t, 3, statementOf(t, db, "select g from generate_series(?, ?) g").Rows)
	assert.NotContains(t, textsOf(db.Statements()), "select ?")
}

func TestStats_TimePreparesAndConnects(t *testing.T) {
	t.Parallel()
	db := started(t, serverConfig())
	base := db.Stats()
	require.NoError(t, db.AcquireFunc(t.Context(), func(ctx context.Context, conn *pgx.Conn) error {
		for range 2 {
			if _, err := conn.Exec(ctx, "select $1::int", 1); err != nil {
				return err
			}
		}
		_, err := conn.Exec(ctx, "select nobody_prepared_this, $1::int", 1)
		require.Error(t, err)
		_, err = conn.Prepare(ctx, "mine", "select 7")
		require.NoError(t, err)
		_, err = conn.Prepare(ctx, "mine", "select 7")
		require.NoError(t, err)
		_, err = conn.Prepare(ctx, "bad", "select nothing_of_the_kind")
		require.Error(t, err)
		return nil
	}))
	s := db.Stats()
	assert.EqualValues(t, 4, s.Prepare.Count-base.Prepare.Count)
	assert.EqualValues(t, 2, s.Statements.Errors-base.Statements.Errors, "each failure once")
	assert.Positive(t, s.Prepare.Max)
	assert.EqualValues(t, 1, s.Connect.Count)
	assert.Equal(t, s.Pool.Connected, s.Connect.Count)
	assert.Positive(t, s.Connect.Average)
	assert.Positive(t, s.Use.Count)
	assert.Positive(t, s.Wait.Count, "the first acquire waited for its connection")
}

func TestLease_OfANewConnectionBeginsWithTheAcquire(t *testing.T) {
	t.Parallel()
	db := started(t, serverConfig())
	for range 2 {
		db.Reset()
		before := time.Now()
		require.NoError(t, db.AcquireFunc(t.Context(), func(context.Context, *pgx.Conn) error {
			assert.WithinRange(t, db.Leases()[0].Since, before, time.Now())
			return nil
		}))
	}
}

func TestLease_DoesNotShowTheStatementOfThePreviousOne(t *testing.T) {
	t.Parallel()
	db := started(t, serverConfig())
	_, err := db.Pool().Exec(t.Context(), "select 'of the lease before'")
	require.NoError(t, err)
	require.NoError(t, db.AcquireFunc(t.Context(), func(context.Context, *pgx.Conn) error {
		assert.Empty(t, db.Leases()[0].Statement)
		return nil
	}))
}

func TestStatements_KeepNoMemoryOfTheApplication(t *testing.T) {
	t.Parallel()
	cfg := serverConfig()
	cfg.Pool.MaxConns = 1
	db := started(t, cfg)
	run := func(piece int) (gone chan struct{}) {
		large := strings.Repeat("select 1 as text -- ", 1<<16)
		gone = make(chan struct{})
		runtime.AddCleanup(unsafe.StringData(large), func(gone chan struct{}) { close(gone) }, gone)
		_, err := db.Pool().Exec(t.Context(), large[:piece], pgx.QueryExecModeSimpleProtocol)
		require.NoError(t, err)
		return gone
	}
	for name, piece := range map[string]int{"a short piece of something large": 20, "a long text": 1 << 20} {
		gone := run(piece)
		require.Eventually(t, func() bool {
			runtime.GC()
			select {
			case <-gone:
				return true
			default:
				return false
			}
		}, eventually, tick, name)
	}
}

func TestLease_BeginsWithTheAcquireAfterIdleTime(t *testing.T) {
	t.Parallel()
	db := started(t, serverConfig())
	_, err := db.Pool().Exec(t.Context(), "select 1")
	require.NoError(t, err)
	idle := time.NewTimer(300 * time.Millisecond)
	<-idle.C
	before := time.Now()
	require.NoError(t, db.AcquireFunc(t.Context(), func(context.Context, *pgx.Conn) error {
		assert.WithinRange(t, db.Leases()[0].Since, before, time.Now())
		return nil
	}))
}

// fullTracer implements every tracer interface of pgx, and keeps the contexts of acquires.
type fullTracer struct {
	mu       sync.Mutex
	calls    map[string]int
	acquires []context.Context
}

func (f *fullTracer) count(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[what]++
}

type mark struct{}

func (f *fullTracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	f.count("query start")
	return context.WithValue(ctx, mark{}, "query")
}

func (f *fullTracer) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryEndData) {
	f.count(fmt.Sprint(ctx.Value(mark{}), " end"))
}

func (f *fullTracer) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	f.count("batch start")
	return context.WithValue(ctx, mark{}, "batch")
}

func (f *fullTracer) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {
	f.count("batch query")
}

func (f *fullTracer) TraceBatchEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchEndData) {
	f.count(fmt.Sprint(ctx.Value(mark{}), " end"))
}

func (f *fullTracer) TraceCopyFromStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceCopyFromStartData) context.Context {
	f.count("copy start")
	return context.WithValue(ctx, mark{}, "copy")
}

func (f *fullTracer) TraceCopyFromEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceCopyFromEndData) {
	f.count(fmt.Sprint(ctx.Value(mark{}), " end"))
}

func (f *fullTracer) TracePrepareStart(ctx context.Context, _ *pgx.Conn, _ pgx.TracePrepareStartData) context.Context {
	f.count("prepare start")
	return context.WithValue(ctx, mark{}, "prepare")
}

func (f *fullTracer) TracePrepareEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TracePrepareEndData) {
	f.count(fmt.Sprint(ctx.Value(mark{}), " end"))
}

func (f *fullTracer) TraceConnectStart(ctx context.Context, _ pgx.TraceConnectStartData) context.Context {
	f.count("connect start")
	return context.WithValue(ctx, mark{}, "connect")
}

func (f *fullTracer) TraceConnectEnd(ctx context.Context, _ pgx.TraceConnectEndData) {
	f.count(fmt.Sprint(ctx.Value(mark{}), " end"))
}

func (f *fullTracer) TraceAcquireStart(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireStartData) context.Context {
	f.count("acquire start")
	return context.WithValue(ctx, mark{}, "acquire")
}

func (f *fullTracer) TraceAcquireEnd(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireEndData) {
	f.count(fmt.Sprint(ctx.Value(mark{}), " end"))
	f.mu.Lock()
	defer f.mu.Unlock()
	f.acquires = append(f.acquires, ctx)
}

func (f *fullTracer) TraceRelease(*pgxpool.Pool, pgxpool.TraceReleaseData) { f.count("release") }

func TestTracer_RunsBesideOthersOfEveryKind(t *testing.T) {
	t.Parallel()
	other := &fullTracer{calls: map[string]int{}}
	db := started(t, serverConfig(), pgfx.WithTracer(other))
	base := db.Stats()
	other.mu.Lock()
	clear(other.calls)
	other.mu.Unlock()
	db.Reset()
	require.NoError(t, db.AcquireFunc(t.Context(), func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "create temporary table copied (id int)")
		require.NoError(t, err)
		_, err = conn.CopyFrom(ctx, pgx.Identifier{"copied"}, []string{"id"}, pgx.CopyFromRows([][]any{{int32(1)}}))
		require.NoError(t, err)
		_, err = conn.Prepare(ctx, "mine", "select 7")
		require.NoError(t, err)
		batch := &pgx.Batch{}
		batch.Queue("mine")
		return conn.SendBatch(ctx, batch).Close()
	}))
	want := []string{
		"acquire end", "acquire start", "batch end", "batch query", "batch start", "connect end", "connect start", "copy end",
		"copy start", "prepare end", "prepare start", "query end", "query start", "release",
	}
	other.mu.Lock()
	assert.Equal(t, want, slices.Sorted(maps.Keys(other.calls)))
	other.mu.Unlock()
	s := db.Stats()
	assert.EqualValues(t, 3, s.Statements.Count-base.Statements.Count)
	assert.EqualValues(t, 1, s.Connect.Count-base.Connect.Count)
	assert.EqualValues(t, 1, s.Use.Count-base.Use.Count)

	require.NoError(t, db.Pool().Ping(t.Context()))
	for _, acquire := range other.acquires {
		assert.Equal(t, "acquire", acquire.Value(mark{}), "each acquire has its own context")
	}
}

func TestStats_Disabled(t *testing.T) {
	t.Parallel()
	cfg := serverConfig()
	cfg.Pool = pgfx.PoolConfig{MaxConns: 1, AcquireTimeout: 100 * time.Millisecond}
	cfg.Stats = pgfx.StatsConfig{Disabled: true, Slow: time.Nanosecond, LongLease: time.Nanosecond}
	core, logs := observer.New(zapcore.InfoLevel)
	db := started(t, cfg, pgfx.WithLogger(zap.New(core)))
	base, lines := db.Stats(), logs.Len()
	_, err := db.Pool().Exec(t.Context(), "select 1/0")
	require.Error(t, err)
	batch := &pgx.Batch{}
	batch.Queue("select 1")
	require.NoError(t, db.Pool().SendBatch(t.Context(), batch).Close())
	require.NoError(t, db.AcquireFunc(t.Context(), func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "create temporary table copied (id int)")
		require.NoError(t, err)
		_, err = conn.CopyFrom(ctx, pgx.Identifier{"copied"}, []string{"id"}, pgx.CopyFromRows([][]any{{int32(1)}}))
		require.NoError(t, err)
		_, err = conn.Prepare(ctx, "mine", "select 7")
		require.NoError(t, err)
		assert.Empty(t, db.Leases())
		_, err = db.Pool().Exec(ctx, "select 1")
		require.ErrorIs(t, err, pgfx.ErrAcquireTimeout, "the timeout still applies")
		return nil
	}))
	s := db.Stats()
	assert.Empty(t, db.Statements())
	assert.Empty(t, db.Slow())
	assert.EqualValues(t, 4, s.Statements.Count-base.Statements.Count, "statements are counted")
	assert.EqualValues(t, 1, s.Statements.Errors)
	assert.Equal(t, map[string]int64{"22": 1}, s.Statements.ErrorsByClass)
	assert.EqualValues(t, 3, s.Use.Count-base.Use.Count)
	assert.Zero(t, s.Statements.Max)
	assert.Zero(t, s.Use.Max)
	assert.Zero(t, s.Prepare.Count)
	assert.EqualValues(t, 1, s.Pool.AcquireErrors-base.Pool.AcquireErrors)
	assert.Equal(t, lines, logs.Len(), "nothing is logged")
}

func TestStatements_CanBeTurnedOff(t *testing.T) {
	t.Parallel()
	cfg := serverConfig()
	cfg.Stats.Statements = pgfx.Off
	db := started(t, cfg)
	base := db.Stats().Statements.Count
	batch := &pgx.Batch{}
	batch.Queue("select 1")
	require.NoError(t, db.Pool().SendBatch(t.Context(), batch).Close())
	_, err := db.Pool().Exec(t.Context(), "select 1")
	require.NoError(t, err)
	assert.Empty(t, db.Statements())
	assert.EqualValues(t, 2, db.Stats().Statements.Count-base)
	assert.Positive(t, db.Stats().Statements.Max)
}

func TestStats_WaitCountsAcquiresThatWaited(t *testing.T) {
	t.Parallel()
	cfg := serverConfig()
	cfg.Pool.MaxConns = 1
	db := started(t, cfg)
	before := db.Stats().Wait.Count
	held, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	assert.Equal(t, before, db.Stats().Wait.Count, "the connection was idle")

	acquired := make(chan *pgxpool.Conn)
	go func() {
		conn, err := db.Pool().Acquire(t.Context())
		assert.NoError(t, err)
		acquired <- conn
	}()
	require.Eventually(t, func() bool { return db.Stats().Pool.Waiting == 1 }, eventually, tick)
	held.Release()
	waited := <-acquired
	assert.Equal(t, before+1, db.Stats().Wait.Count, "the connection was released for the acquire")
	waited.Release()

	db.Reset()
	opened, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	assert.Equal(t, before+2, db.Stats().Wait.Count, "the connection was opened for the acquire")
	opened.Release()
}

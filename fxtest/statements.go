package fxtest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/multitracer"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// Counter counts the statements and round trips of a database's pool. It does not count pings, calls of pgconn,
// connections outside the pool and the preparation of statements, which happens once for each connection.
//
// The methods may be called concurrently.
type Counter struct {
	tb testing.TB

	mu         sync.Mutex
	statements []string
	roundTrips int
}

// Statements starts counting the statements and round trips of a database until the end of the test. The database must come
// from [DB] or [New], or have been opened with the option [Recording].
func Statements(tb testing.TB, db *pgfx.DB) *Counter {
	tb.Helper()
	r := recorderOf(db)
	if r == nil {
		tb.Fatal("fxtest: statements: the database has no recorder: create it with fxtest.DB or fxtest.New, or open it with the option fxtest.Recording()")
	}
	c := &Counter{tb: tb}
	r.add(c)
	tb.Cleanup(func() { r.remove(c) })
	return c
}

// Recording returns the option that a database needs for [Statements].
func Recording() pgfx.Option { return pgfx.WithTracer(&recorder{}) }

// recorderOf returns the recorder among the tracers of a database, or nil.
func recorderOf(db *pgfx.DB) *recorder {
	several, ok := db.Pool().Config().ConnConfig.Tracer.(*multitracer.Tracer)
	if !ok {
		return nil
	}
	for _, tracer := range several.QueryTracers {
		if r, ok := tracer.(*recorder); ok {
			return r
		}
	}
	return nil
}

// Statements returns the text of all statements so far, in the order in which they were sent. It includes each statement of
// a batch, and BEGIN, COMMIT and ROLLBACK.
func (c *Counter) Statements() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.statements)
}

// RoundTrips returns the number of round trips to the server so far. A batch is one round trip, and so is a COPY.
func (c *Counter) RoundTrips() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.roundTrips
}

// Reset sets the counts to zero and forgets the statements.
func (c *Counter) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.statements, c.roundTrips = nil, 0
}

// AssertRoundTrips fails the test and returns false unless there were exactly n round trips since the start or the last
// [Counter.Reset]. The error lists the statements and collapses repeated ones, as of an N+1 problem, into one line with
// their number.
func (c *Counter) AssertRoundTrips(n int) bool {
	c.tb.Helper()
	return c.assert(n, func(got int) bool { return got == n }, "want %d")
}

// AssertRoundTripsAtMost is like [Counter.AssertRoundTrips] but allows fewer round trips.
func (c *Counter) AssertRoundTripsAtMost(n int) bool {
	c.tb.Helper()
	return c.assert(n, func(got int) bool { return got <= n }, "want at most %d")
}

func (c *Counter) assert(n int, ok func(int) bool, want string) bool {
	c.tb.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if ok(c.roundTrips) {
		return true
	}
	c.tb.Errorf("fxtest: %d round trips, "+want+":\n%s", c.roundTrips, n, summary(c.statements))
	return false
}

// summary lists the statements, one a line. Consecutive statements with the same text share a line.
func summary(statements []string) string {
	var lines []string
	for i := 0; i < len(statements); {
		same := i + 1
		for same < len(statements) && statements[same] == statements[i] {
			same++
		}
		line := "\t" + oneLine(statements[i])
		if times := same - i; times > 1 {
			line += fmt.Sprintf(" (%d times)", times)
		}
		lines = append(lines, line)
		i = same
	}
	return strings.Join(lines, "\n")
}

func (c *Counter) record(statements ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.statements = append(c.statements, statements...)
	c.roundTrips++
}

// recorder is a pgx tracer that passes statements to the active counters.
type recorder struct {
	mu       sync.RWMutex
	counters []*Counter
}

var (
	_ pgx.QueryTracer    = (*recorder)(nil)
	_ pgx.BatchTracer    = (*recorder)(nil)
	_ pgx.CopyFromTracer = (*recorder)(nil)
)

func (r *recorder) add(c *Counter) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counters = append(r.counters, c)
}

func (r *recorder) remove(c *Counter) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counters = slices.DeleteFunc(r.counters, func(other *Counter) bool { return other == c })
}

func (r *recorder) record(statements func() []string) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if len(r.counters) == 0 {
		return
	}
	sent := statements()
	for _, c := range r.counters {
		c.record(sent...)
	}
}

func (r *recorder) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	r.record(func() []string { return []string{data.SQL} })
	return ctx
}

func (r *recorder) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (r *recorder) TraceBatchStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	r.record(func() []string {
		queries := make([]string, len(data.Batch.QueuedQueries))
		for i, query := range data.Batch.QueuedQueries {
			queries[i] = query.SQL
		}
		return queries
	})
	return ctx
}

func (r *recorder) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

func (r *recorder) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

func (r *recorder) TraceCopyFromStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceCopyFromStartData) context.Context {
	r.record(func() []string { return []string{"copy " + data.TableName.Sanitize() + " from stdin"} })
	return ctx
}

func (r *recorder) TraceCopyFromEnd(context.Context, *pgx.Conn, pgx.TraceCopyFromEndData) {}

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

// Counter counts what runs on the pool of a database, whoever runs it. What bypasses pgx (pings, pgconn) and what has a
// connection outside the pool is not counted, nor is preparing a statement, which each connection does once.
//
// Its methods may be used by several goroutines at once.
type Counter struct {
	tb testing.TB

	mu         sync.Mutex
	statements []string
	roundTrips int
}

// Statements begins to count what runs on the database, until the end of the test. The database must be one of this
// package's ([DB], [New]) or have been opened with [Recording].
func Statements(tb testing.TB, db *pgfx.DB) *Counter {
	tb.Helper()
	r := recorderOf(db)
	if r == nil {
		tb.Fatal("fxtest: statements: nobody records this database: make it with fxtest.DB or fxtest.New, or open it with the option fxtest.Recording()")
	}
	c := &Counter{tb: tb}
	r.add(c)
	tb.Cleanup(func() { r.remove(c) })
	return c
}

// Recording is the option that lets [Statements] count what runs on a database.
func Recording() pgfx.Option { return pgfx.WithTracer(&recorder{}) }

// recorderOf finds the recorder among the tracers of a database.
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

// Statements returns the texts of the statements so far, in the order in which they were sent. Those of a batch count one
// by one; BEGIN, COMMIT and ROLLBACK count too.
func (c *Counter) Statements() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.statements)
}

// RoundTrips returns how often somebody has sent something to the server and waited for the answer so far. A batch is one
// round trip, and so is a COPY.
func (c *Counter) RoundTrips() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.roundTrips
}

// Reset begins again at zero.
func (c *Counter) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.statements, c.roundTrips = nil, 0
}

// AssertRoundTrips fails the test, and returns false, unless there were n round trips since the counter began. It lists
// the statements; those that were sent again and again in a row, as in an N+1, come with their number.
func (c *Counter) AssertRoundTrips(n int) bool {
	c.tb.Helper()
	return c.assert(n, func(got int) bool { return got == n }, "want %d")
}

// AssertRoundTripsAtMost is [Counter.AssertRoundTrips] for a use case that may need less.
func (c *Counter) AssertRoundTripsAtMost(n int) bool {
	c.tb.Helper()
	return c.assert(n, func(got int) bool { return got <= n }, "want at most %d")
}

func (c *Counter) assert(n int, fine func(int) bool, want string) bool {
	c.tb.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if fine(c.roundTrips) {
		return true
	}
	c.tb.Errorf("fxtest: %d round trips, "+want+":\n%s", c.roundTrips, n, summary(c.statements))
	return false
}

// summary lists statements, those that follow one another with the same text in one line.
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

// recorder is the tracer that tells the counters. While there are none it does nothing.
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
	texts := statements()
	for _, c := range r.counters {
		c.record(texts...)
	}
}

func (r *recorder) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	r.record(func() []string { return []string{data.SQL} })
	return ctx
}

func (r *recorder) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (r *recorder) TraceBatchStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	r.record(func() []string {
		texts := make([]string, len(data.Batch.QueuedQueries))
		for i, query := range data.Batch.QueuedQueries {
			texts[i] = query.SQL
		}
		return texts
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

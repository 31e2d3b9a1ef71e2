package poolstats

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/internal/caller"
	"github.com/rdsfx-go/rdsfx/internal/logctx"
	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
	"github.com/rdsfx-go/rdsfx/internal/sqltext"
)

// SlowStatement is a statement, a batch or a COPY that was slow. The fields are those of pgfx.SlowStatement.
type SlowStatement struct {
	Text     string
	Batch    int
	Began    time.Time
	Took     time.Duration
	Rows     int64
	Failed   bool
	SQLState string
	PID      uint32
	Stack    []runtime.Frame
}

const (
	slowKept = 100

	// When the server is slow, every statement is. The log then gets slowLogBurst lines at once and one every slowLogInterval
	// afterwards, which has the number of lines that were left out.
	slowLogBurst    = 10
	slowLogInterval = time.Second
)

// slowLog keeps the latest slow statements and limits how many of them are logged. Its zero value is ready for use.
type slowLog struct {
	mu      sync.Mutex
	ring    [slowKept]slowEntry
	count   int64
	lines   rateLimit
	omitted int64 // lines that were left out since the last one
}

type slowEntry struct {
	SlowStatement

	pcs []uintptr // resolved into frames when the statement is read
}

// add keeps an entry. It returns whether to log it, and how many lines before it were left out.
func (s *slowLog) add(e slowEntry, now time.Duration) (log bool, omitted int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ring[s.count%slowKept] = e
	s.count++
	if !s.lines.allow(now, slowLogBurst, slowLogInterval) {
		s.omitted++
		return false, 0
	}
	omitted, s.omitted = s.omitted, 0
	return true, omitted
}

func (s *slowLog) latest() []slowEntry {
	s.mu.Lock()
	defer s.mu.Unlock()
	entries := make([]slowEntry, 0, min(s.count, slowKept))
	for i := s.count - 1; i >= 0 && i >= s.count-slowKept; i-- {
		entries = append(entries, s.ring[i%slowKept])
	}
	return entries
}

func (s *slowLog) total() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// Slow returns the latest slow statements, the latest first.
func (c *Collector) Slow() []SlowStatement {
	entries := c.slow.latest()
	statements := make([]SlowStatement, len(entries))
	for i, e := range entries {
		statements[i] = e.SlowStatement
		statements[i].Stack = caller.Frames(e.pcs)
	}
	return statements
}

// recordSlow keeps and logs a slow execution. The goroutine that ran the statement calls it, so its stack shows the caller.
func (c *Collector) recordSlow(ctx context.Context, e *Execution) {
	var pcs [stackDepth]uintptr
	entry := slowEntry{SlowStatement{
		Text: string(sqltext.Normalize(nil, e.Text)), Batch: len(e.Batch), Began: c.clock.start().Add(e.began), Took: e.Took,
		Rows:   e.Tag.RowsAffected(),
		Failed: e.Err != nil, SQLState: sqlstate.Code(e.Err), PID: e.PID,
	}, slices.Clone(pcs[:runtime.Callers(2, pcs[:])])}
	log, omitted := c.slow.add(entry, c.clock.now())
	if !log {
		return
	}
	fields := append(e.logFields(entry.Text), logctx.Field(ctx))
	if stack := caller.Frames(entry.pcs); len(stack) > 0 {
		fields = append(fields, zap.String("caller", caller.Position(stack[0])))
	}
	if omitted > 0 {
		fields = append(fields, zap.Int64("omitted", omitted))
	}
	c.cfg.Logger.Warn("slow statement", fields...)
}

// logExecution logs an execution at debug level.
func (c *Collector) logExecution(ctx context.Context, e *Execution) {
	if line := c.cfg.Logger.Check(zap.DebugLevel, "statement"); line != nil {
		line.Write(append(e.logFields(string(sqltext.Normalize(nil, e.Text))), logctx.Field(ctx))...)
	}
}

// logFields describes an execution without values. The text of an error may quote some, so only its code is logged.
func (e *Execution) logFields(normalized string) []zap.Field {
	fields := []zap.Field{
		zap.String("statement", normalized), zap.Duration("took", e.Took), zap.Int64("rows", e.Tag.RowsAffected()), zap.Uint32("pid", e.PID),
	}
	if e.Batch != nil {
		fields = append(fields, zap.Int("batch", len(e.Batch)))
	}
	if e.Err != nil {
		fields = append(fields, zap.Bool("failed", true), zap.String("sqlstate", sqlstate.Code(e.Err)))
	}
	return fields
}

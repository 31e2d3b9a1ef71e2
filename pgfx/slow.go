package pgfx

import (
	"runtime"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/internal/caller"
	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
	"github.com/rdsfx-go/rdsfx/internal/sqltext"
)

// SlowStatement is a statement, a batch or a COPY that took Config.Stats.Slow or longer.
type SlowStatement struct {
	// Text is the normalised text, as in [Statement]; of a batch that of its first statement.
	Text string `json:"text"`
	// Batch is the number of statements in a batch, 0 when it was none.
	Batch int `json:"batch,omitempty"`
	// Began is when it was sent.
	Began time.Time `json:"began"`
	// Took is the time from then until its end, with the reading of the rows.
	Took time.Duration `json:"took"`
	// Rows is how many rows it returned or changed; of a batch it is 0.
	Rows int64 `json:"rows"`
	// Failed is whether it ended with an error, SQLState the server's code for that.
	Failed   bool   `json:"failed,omitempty"`
	SQLState string `json:"sqlstate,omitempty"`
	// PID is the process ID of the server's backend, as in pg_stat_activity.
	PID uint32 `json:"pid"`
	// Stack is who ran it, innermost frame first, without the frames of this library and pgx.
	Stack []runtime.Frame `json:"-"`
}

// Slow returns the latest slow statements, at most 100, the latest first. Safe for concurrent use.
func (db *DB) Slow() []SlowStatement {
	entries := db.slow.latest()
	statements := make([]SlowStatement, len(entries))
	for i, e := range entries {
		statements[i] = e.SlowStatement
		statements[i].Stack = caller.Frames(e.pcs)
	}
	return statements
}

const (
	slowKept = 100
	// A slow statement is a line in the log, but so many at once only, and one a slowRefill after that: when the server is
	// slow all statements are, and their lines would tell nothing new. The next line says how many were left out.
	slowBurst  = 10
	slowRefill = time.Second
)

type slowEntry struct {
	SlowStatement

	pcs []uintptr // named when somebody looks
}

// slowLog keeps the latest slow statements and decides which of them are logged.
type slowLog struct {
	mu      sync.Mutex
	ring    [slowKept]slowEntry
	count   int64
	full    time.Duration // on the DB's clock: when all lines of a burst are there again
	leftOut int64
}

// add keeps an entry. It returns whether to log it, and how many before it were not logged.
func (s *slowLog) add(e slowEntry, now time.Duration) (logged bool, leftOut int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ring[s.count%slowKept] = e
	s.count++
	if full := max(s.full, now) + slowRefill; full <= now+slowBurst*slowRefill {
		s.full, leftOut, s.leftOut = full, s.leftOut, 0
		return true, leftOut
	}
	s.leftOut++
	return false, 0
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

// sawSlow keeps and logs a slow run. It is called by the goroutine that ran the statement.
func (w *watch) sawSlow(r *run, took time.Duration, pid uint32, rows int64, err error) {
	db := w.db
	e := slowEntry{SlowStatement: SlowStatement{
		Text: string(sqltext.Normalize(nil, r.text)), Batch: r.batch, Began: db.opened.Add(r.began), Took: took, Rows: rows,
		Failed: err != nil, SQLState: sqlstate.Code(err), PID: pid,
	}}
	var pcs [stackDepth]uintptr
	e.pcs = slices.Clone(pcs[:runtime.Callers(2, pcs[:])])
	logged, leftOut := db.slow.add(e, r.began+took)
	if !logged {
		return
	}
	fields := []zap.Field{
		zap.String("statement", e.Text), zap.Duration("took", e.Took), zap.Int64("rows", rows), zap.Uint32("pid", pid),
	}
	if stack := caller.Frames(e.pcs); len(stack) > 0 {
		fields = append(fields, zap.String("caller", caller.Position(stack[0])))
	}
	if e.Batch > 0 {
		fields = append(fields, zap.Int("batch", e.Batch))
	}
	if e.Failed { // the error's text may quote values
		fields = append(fields, zap.Bool("failed", true), zap.String("sqlstate", e.SQLState))
	}
	if leftOut > 0 {
		fields = append(fields, zap.Int64("left_out", leftOut))
	}
	db.logger.Warn("slow statement", fields...)
}

// logStatement writes a line for a run, when somebody reads them.
func (w *watch) logStatement(r *run, took time.Duration, pid uint32, rows int64, err error) {
	line := w.db.logger.Check(zap.DebugLevel, "statement")
	if line == nil {
		return
	}
	fields := []zap.Field{
		zap.String("statement", string(sqltext.Normalize(nil, r.text))), zap.Duration("took", took), zap.Int64("rows", rows), zap.Uint32("pid", pid),
	}
	if r.batch > 0 {
		fields = append(fields, zap.Int("batch", r.batch))
	}
	if err != nil { // its text may quote values
		fields = append(fields, zap.Bool("failed", true), zap.String("sqlstate", sqlstate.Code(err)))
	}
	line.Write(fields...)
}

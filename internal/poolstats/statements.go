package poolstats

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rdsfx-go/rdsfx/internal/histogram"
)

// Statement is the total of all statements with the same normalized text. The fields are those of pgfx.Statement.
type Statement struct {
	Text         string
	Since        time.Time
	Total        time.Duration
	Errors, Rows int64
	Durations    histogram.Summary
}

// Statements returns the totals of statements, the largest total duration first.
func (c *Collector) Statements() []Statement {
	entries, start := c.statements.all(), c.clock.start()
	statements := make([]Statement, len(entries))
	for i, e := range entries {
		statements[i] = Statement{
			Text: e.text, Since: start.Add(e.since), Total: e.durations.Sum(), Errors: e.errors.Load(), Rows: e.rows.Load(),
			Durations: e.durations.Summary(),
		}
	}
	slices.SortFunc(statements, func(a, b Statement) int {
		return cmp.Or(cmp.Compare(b.Total, a.Total), cmp.Compare(a.Text, b.Text))
	})
	return statements
}

// statementEntry counts the executions of one normalized text.
type statementEntry struct {
	text         string
	since        time.Duration // on the collector's clock
	credit       time.Duration // see statementTable
	evicted      atomic.Bool
	errors, rows atomic.Int64
	durations    histogram.Histogram
}

func (e *statementEntry) record(took time.Duration, rows int64, err error) {
	e.durations.Record(took)
	if rows > 0 {
		e.rows.Add(rows)
	}
	if err != nil {
		e.errors.Add(1)
	}
}

// value decides which entry is evicted from a full table.
func (e *statementEntry) value() time.Duration { return e.credit + e.durations.Sum() }

// statementTable holds at most capacity entries. A new text evicts the entry with the smallest value: its total duration, plus
// the value of the entry that it has evicted itself. Without that credit every new text would evict the one before it.
type statementTable struct {
	capacity int

	mu        sync.Mutex
	entries   map[string]*statementEntry
	evictions int64
}

// find returns the entry of a normalized text, and adds one if there is none.
func (t *statementTable) find(text []byte, now time.Duration) *statementEntry {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.entries[string(text)]; e != nil {
		return e
	}
	e := &statementEntry{text: string(text), since: now}
	if t.entries == nil {
		t.entries = make(map[string]*statementEntry)
	}
	if len(t.entries) >= t.capacity {
		e.credit = t.evict()
	}
	t.entries[e.text] = e
	return e
}

// evict removes the entry with the smallest value, and returns that value.
func (t *statementTable) evict() time.Duration {
	var least *statementEntry
	var value time.Duration
	for _, e := range t.entries {
		if v := e.value(); least == nil || v < value {
			least, value = e, v
		}
	}
	least.evicted.Store(true)
	delete(t.entries, least.text)
	t.evictions++
	return value
}

func (t *statementTable) all() []*statementEntry {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]*statementEntry, 0, len(t.entries))
	for _, e := range t.entries {
		all = append(all, e)
	}
	return all
}

func (t *statementTable) evicted() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.evictions
}

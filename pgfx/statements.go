package pgfx

import (
	"cmp"
	"container/heap"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rdsfx-go/rdsfx/internal/histogram"
	"github.com/rdsfx-go/rdsfx/internal/sqltext"
)

// Statement is what is known about the statements of one text.
type Statement struct {
	// DurationStats are the times of all runs, failed ones too, with the reading of the rows. A statement in a batch counts
	// from when its result was asked for.
	DurationStats

	// Text is the normalised text: literals and parameters are "?", lists of values and the rows of VALUES one "…", comments
	// and superfluous white space are left out. It holds no value. What is longer than 2 KB is cut and ends with "…".
	Text string `json:"text"`
	// Since is when the text was first seen, or seen again after it had to make room for others.
	Since time.Time `json:"since"`
	// Total is the sum of the times.
	Total time.Duration `json:"total"`
	// Errors is how many of the runs failed.
	Errors int64 `json:"errors"`
	// Rows is how many rows the runs returned or changed.
	Rows int64 `json:"rows"`
}

// Statements returns what the statements on the pool took, by their normalised text, the largest total time first. It
// keeps as many texts as Config.Stats.Statements says. A COPY counts under a text of its own, a batch under the texts of
// its statements. Safe for concurrent use.
func (db *DB) Statements() []Statement {
	entries := db.statements.all()
	list := make([]Statement, len(entries))
	for i, e := range entries {
		list[i] = Statement{
			Text: e.text, Since: db.opened.Add(e.since), DurationStats: DurationStats(e.times.Summary()), Total: e.times.Sum(),
			Errors: e.errors.Load(), Rows: e.rows.Load(),
		}
	}
	slices.SortFunc(list, func(a, b Statement) int { return cmp.Or(cmp.Compare(b.Total, a.Total), cmp.Compare(a.Text, b.Text)) })
	return list
}

// statementEntry counts the runs of one text.
type statementEntry struct {
	text         string
	since        time.Duration // on the DB's clock
	credit       time.Duration // see statementTable
	worth        time.Duration // its value when the table last looked
	evicted      atomic.Bool
	errors, rows atomic.Int64
	times        histogram.Histogram
}

func (e *statementEntry) record(took time.Duration, rows int64, err error) {
	e.times.Record(took)
	if rows > 0 {
		e.rows.Add(rows)
	}
	if err != nil {
		e.errors.Add(1)
	}
}

func (e *statementEntry) value() time.Duration { return e.credit + e.times.Sum() }

// statementTable holds the entries of a pool, a fixed number at most. Connections remember which entry a text belongs to
// (knownTexts), so that its lock is for texts that a connection hasn't met.
//
// When it is full the entry of the least value makes room. An entry's value is the time it took, and the value of the
// entry that it replaced: newcomers are not at once the next to go, and what was busy only long ago goes in the end. Values
// only grow, so that a heap finds the least one although its order is that of earlier looks: when the first entry is worth
// what it was, no other one can be worth less.
type statementTable struct {
	capacity int // 0: no statement is kept

	mu      sync.Mutex
	byText  map[string]*statementEntry
	entries statementHeap
	evicted int64
}

// statementHeap is a heap (container/heap) of entries, the one that was worth least on top.
type statementHeap []*statementEntry

func (h *statementHeap) Len() int           { return len(*h) }
func (h *statementHeap) Less(i, j int) bool { return (*h)[i].worth < (*h)[j].worth }
func (h *statementHeap) Swap(i, j int)      { (*h)[i], (*h)[j] = (*h)[j], (*h)[i] }

// Push is called by heap.Push.
func (h *statementHeap) Push(entry any) {
	if e, ok := entry.(*statementEntry); ok {
		*h = append(*h, e)
	}
}

// Pop is called by nobody: a full table replaces.
func (h *statementHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// find returns the entry of a normalised text. It makes one where there is none.
func (t *statementTable) find(text []byte, now time.Duration) *statementEntry {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.byText[string(text)]; e != nil {
		return e
	}
	e := &statementEntry{text: string(text), since: now}
	if t.byText == nil {
		t.byText = make(map[string]*statementEntry)
	}
	if len(t.entries) < t.capacity {
		heap.Push(&t.entries, e)
	} else {
		t.replace(e)
	}
	t.byText[e.text] = e
	return e
}

// replace puts e into the place of the entry that is worth least.
func (t *statementTable) replace(e *statementEntry) {
	for value := t.entries[0].value(); value > t.entries[0].worth; value = t.entries[0].value() {
		t.entries[0].worth = value
		heap.Fix(&t.entries, 0)
	}
	old := t.entries[0]
	old.evicted.Store(true)
	delete(t.byText, old.text)
	e.credit, e.worth = old.worth, old.worth
	t.entries[0] = e // worth the same: the heap stays one
	t.evicted++
}

func (t *statementTable) all() []*statementEntry {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone([]*statementEntry(t.entries))
}

func (t *statementTable) evictions() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.evicted
}

const (
	// A connection remembers so many texts of so many bytes together, and none that is longer than longestKnown. It is
	// enough for what pgx keeps prepared statements for.
	mostKnown    = 512
	knownBytes   = 128 << 10
	longestKnown = 4 << 10
)

// knownTexts are the texts that one connection has met, as they were given, and their entries. Looking one up takes no
// lock that connections share and no memory.
type knownTexts struct {
	texts   map[string]knownText
	bytes   int
	scratch []byte
}

// knownText is a text of our own, for that of the caller may be a piece of something large.
type knownText struct {
	text  string
	entry *statementEntry
}

// find returns the entry of a text, and the text as it is known from now on.
func (k *knownTexts) find(t *statementTable, text string, now time.Duration) knownText {
	known, met := k.texts[text]
	if met && !known.entry.evicted.Load() {
		return known
	}
	if cap(k.scratch) > 2*sqltext.MaxNormalized {
		k.scratch = nil
	}
	k.scratch = sqltext.Normalize(k.scratch[:0], text)
	entry := t.find(k.scratch, now)
	if !met && len(text) > longestKnown {
		return knownText{text, entry}
	}
	if !met {
		known.text = strings.Clone(text)
		if len(k.texts) >= mostKnown || k.bytes+len(text) > knownBytes {
			clear(k.texts) // what is in use is soon known again
			k.bytes = 0
		}
		if k.texts == nil {
			k.texts = make(map[string]knownText)
		}
		k.bytes += len(text)
	}
	known.entry = entry
	k.texts[known.text] = known
	return known
}

package pgfx

import "time"

// run is one statement, batch or COPY on a connection.
type run struct {
	text  string
	batch int // how many statements, 0 when it is no batch
	began time.Duration
	took  time.Duration
	entry *statementEntry // nil for a batch, and where no statements are kept
}

// runs follows what runs on a connection: one thing at a time, for pgx refuses a second.
type runs struct {
	last     run
	running  bool
	refused  int           // began while something else ran and has not ended yet: pgx is about to say that the connection is busy
	prepared time.Duration // when the running preparation began
	known    knownTexts
	answered time.Duration // when something last succeeded
}

func (r *runs) begin(text string, batch int, now time.Duration) {
	if r.running {
		r.refused++
		return
	}
	r.running = true
	r.last = run{text: text, batch: batch, began: now}
}

// ending is what an end was the end of.
type ending int

const (
	endedNow     ending = iota // what ran
	endedRefused               // what pgx refused because something else runs
	endedBefore                // nothing: pgx tells the end of a batch that couldn't be sent twice
)

// end returns what ended.
func (r *runs) end(table *statementTable, now time.Duration) (run, ending) {
	switch {
	case r.refused > 0:
		r.refused--
		return run{}, endedRefused
	case !r.running:
		return run{}, endedBefore
	}
	r.running = false
	ended := r.last
	ended.took = now - ended.began
	if table.capacity > 0 && ended.batch == 0 {
		ended.entry = r.known.find(table, ended.text, now)
	}
	return ended, endedNow
}

// any reports whether anything ran. The holder of the connection may ask without the lock: only he changes it.
func (r *runs) any() bool { return r.last.began > 0 }

// reset forgets what ran.
func (r *runs) reset() { r.last, r.running, r.refused = run{}, false, 0 }

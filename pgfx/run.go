package pgfx

import (
	"sync/atomic"
	"time"
)

// run is one statement, batch or COPY on a connection.
type run struct {
	text  string
	batch int             // how many statements, 0 when it is no batch
	lease int64           // connState.since when it began
	began time.Duration   // later than whatever ended before
	entry *statementEntry // nil for a batch, and for a text that the connection hadn't met
}

// runs follows what runs on a connection: one thing at a time, for pgx refuses a second. Only the holder of the connection
// changes it. Others may read what is atomic, and under the connection's lock what begin has noted.
type runs struct {
	last     run
	foreign  bool // the text of last is the caller's own, which may be large or a piece of something large
	running  bool
	refused  int           // began while something else ran and has not ended yet: pgx is about to say that the connection is busy
	prepared time.Duration // when the running preparation began
	known    knownTexts

	answered, failed atomic.Int64 // when something last succeeded, and failed
}

// begin notes what begins. It holds the connection's lock.
func (r *runs) begin(text string, batch int, lease int64, now time.Duration) {
	if r.running {
		r.refused++
		return
	}
	known, met := r.known.texts[text]
	if met {
		text = known.text
	}
	r.running, r.foreign = true, !met
	r.last.text, r.last.batch, r.last.lease, r.last.entry = text, batch, lease, nil
	if batch == 0 {
		r.last.entry = known.entry
	}
	r.last.began = max(now, time.Duration(r.answered.Load()+1), time.Duration(r.failed.Load()+1))
}

// ending is what an end was the end of.
type ending int

const (
	endedNow     ending = iota // what ran
	endedRefused               // what pgx refused because something else runs
	endedBefore                // nothing: pgx tells the end of a batch that couldn't be sent twice
)

// end notes that something ended. It is last that did if it says endedNow.
func (r *runs) end(now time.Duration, succeeded bool) (took time.Duration, how ending) {
	switch {
	case r.refused > 0:
		r.refused--
		return 0, endedRefused
	case !r.running:
		return 0, endedBefore
	}
	r.running = false
	now = max(now, r.last.began)
	if succeeded {
		r.answered.Store(int64(now))
	} else {
		r.failed.Store(int64(now))
	}
	return now - r.last.began, endedNow
}

// pending returns when what runs began. Anybody may ask who holds the connection's lock.
func (r *runs) pending() (began time.Duration, running bool) {
	began = r.last.began
	return began, began > time.Duration(max(r.answered.Load(), r.failed.Load()))
}

// tidy reports whether nothing is left of a lease that the next one could mistake for its own, or that takes memory.
func (r *runs) tidy() bool { return !r.running && !r.foreign && r.refused == 0 }

// reset forgets what ran. It holds the connection's lock.
func (r *runs) reset() { r.last, r.running, r.foreign, r.refused = run{}, false, false, 0 }

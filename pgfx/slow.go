package pgfx

import (
	"runtime"
	"time"
)

// SlowStatement is a statement, a batch or a COPY that took Config.Stats.Slow or longer.
type SlowStatement struct {
	// Text is the normalized text, as in [Statement]; of a batch, that of its first statement.
	Text string `json:"text"`
	// Batch is the number of statements in the batch, 0 if it is none.
	Batch int `json:"batch,omitempty"`
	// Began is when the statement was sent.
	Began time.Time `json:"began"`
	// Took is the duration until its last row was read, in JSON in nanoseconds.
	Took time.Duration `json:"took"`
	// Rows is the number of rows that it returned or changed, 0 for a batch.
	Rows int64 `json:"rows"`
	// Failed reports whether it returned an error.
	Failed bool `json:"failed,omitempty"`
	// SQLState is the server's code of that error, "" for errors that are not the server's.
	SQLState string `json:"sqlstate,omitempty"`
	// PID is the process ID of the server's backend, as in pg_stat_activity.
	PID uint32 `json:"pid"`
	// Stack is the stack of the caller, innermost frame first, without the frames of this library and pgx.
	Stack []runtime.Frame `json:"-"`
}

// Slow returns the latest slow statements, at most 100, the latest first. It is safe for concurrent use.
func (db *DB) Slow() []SlowStatement {
	slow := db.stats.Slow()
	statements := make([]SlowStatement, len(slow))
	for i, s := range slow {
		statements[i] = SlowStatement(s)
	}
	return statements
}

package pgfx

import "time"

// Statement is the total of all statements with the same normalized text since the DB was opened.
type Statement struct {
	// DurationStats summarizes the durations of all executions, failed ones too. Reading the rows is part of a duration. That of
	// a statement in a batch begins when its result is read.
	DurationStats

	// Text is the normalized text. Literals and parameters are "?". Lists of values, and the rows of VALUES after the first, are
	// "…". Comments and superfluous white space are left out. It holds no values. It is cut after 2 KB, and then ends with "…".
	Text string `json:"text"`
	// Since is when the text was first executed, or executed again after it was dropped in favor of others.
	Since time.Time `json:"since"`
	// Total is the sum of the durations, in JSON in nanoseconds.
	Total time.Duration `json:"total"`
	// Errors is the number of failed executions.
	Errors int64 `json:"errors"`
	// Rows is the number of rows that were returned or changed.
	Rows int64 `json:"rows"`
}

// Statements returns the totals of the statements of the pool by normalized text, the largest total duration first. It keeps
// at most Config.Stats.Statements texts. A COPY has a separate text; the statements of a batch count one by one. It is safe
// for concurrent use.
func (db *DB) Statements() []Statement {
	totals := db.stats.Statements()
	statements := make([]Statement, len(totals))
	for i, s := range totals {
		statements[i] = Statement{
			DurationStats: DurationStats(s.Durations), Text: s.Text, Since: s.Since, Total: s.Total, Errors: s.Errors, Rows: s.Rows,
		}
	}
	return statements
}

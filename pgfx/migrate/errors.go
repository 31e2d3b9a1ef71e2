package migrate

import (
	"fmt"
	"strings"
	"time"
)

// PendingError reports in [ModeCheck] that migrations have not been applied.
type PendingError struct {
	// Files are the names of the pending migrations in their order, at least one.
	Files []string
}

func (e *PendingError) Error() string {
	return fmt.Sprintf("migrate: %d migrations are pending (%s); run the migration job, or set the mode to run",
		len(e.Files), strings.Join(e.Files, ", "))
}

// OrderError reports pending migrations whose version is below the newest applied one.
type OrderError struct {
	// Files are the names of these migrations, at least one. Newest is the newest applied version.
	Files  []string
	Newest int64
}

func (e *OrderError) Error() string {
	return fmt.Sprintf("migrate: %s would be applied after version %d; give it a newer version, or permit it by WithOutOfOrder",
		strings.Join(e.Files, ", "), e.Newest)
}

// ChangedError reports applied files whose content has changed since, or one file without a transaction that changed after a part
// of it was applied.
type ChangedError struct {
	// Files are their names, at least one.
	Files []string
	// Statements is the number of statements of a partly applied file that are done. It is 0 for applied files.
	Statements int
}

func (e *ChangedError) Error() string {
	files := strings.Join(e.Files, ", ")
	if e.Statements > 0 {
		return fmt.Sprintf("migrate: the first %d statements of %s changed after they were applied by an interrupted run; "+
			"restore them, and change only those that follow", e.Statements, files)
	}
	return fmt.Sprintf("migrate: %s changed after it was applied; restore the file and put the change into a new migration", files)
}

// Session describes a session of the server that holds a lock. It contains no statement text.
type Session struct {
	// PID is 0 for the holder of the table lease behind a transaction pooler, whose Application names host and process.
	PID         int32
	User        string
	Application string
	// State is that of pg_stat_activity, such as "idle in transaction".
	State string
	// Age is the duration of its transaction, or of the session if it has none.
	Age time.Duration
}

func (s Session) String() string {
	if s.PID == 0 {
		return fmt.Sprintf("%s (for %v)", s.Application, s.Age.Round(time.Millisecond))
	}
	return fmt.Sprintf("PID %d (user %s, application %q, %s for %v)", s.PID, s.User, s.Application, s.State, s.Age.Round(time.Millisecond))
}

func sessionList(sessions []Session) string {
	if len(sessions) == 0 {
		return "an unknown session"
	}
	descriptions := make([]string, len(sessions))
	for i, s := range sessions {
		descriptions[i] = s.String()
	}
	return strings.Join(descriptions, ", ")
}

// LockedError reports that another instance held the migration lock for all of the wait.
type LockedError struct {
	Waited time.Duration
	// Holders are the sessions that hold the lock, as far as they are visible.
	Holders []Session

	err error
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("migrate: another instance holds the migration lock after %v of waiting: %s; "+
		"wait for it, or end that session if it hangs", e.Waited.Round(time.Millisecond), sessionList(e.Holders))
}

func (e *LockedError) Unwrap() error { return e.err }

// LockTimeoutError reports that a statement did not get its locks in time. Nothing of its migration has been kept, unless it runs
// without a transaction.
type LockTimeoutError struct {
	// Attempts is the number of attempts, and Elapsed their time with the pauses.
	Attempts int
	Elapsed  time.Duration
	// Holders are the sessions that blocked the statement, as far as they are visible.
	Holders []Session

	err error
}

func (e *LockTimeoutError) Error() string {
	return fmt.Sprintf("no lock after %d attempts in %v, blocked by %s", e.Attempts, e.Elapsed.Round(time.Millisecond), sessionList(e.Holders))
}

func (e *LockTimeoutError) Unwrap() error { return e.err }

// StatementError reports the migration and the statement that failed. Unwrap gives the server's *pgconn.PgError.
type StatementError struct {
	// File is the name of the migration, and Line the line of the statement in it, 0 when it is not known.
	File string
	Line int

	hints []string
	err   error
}

func (e *StatementError) Error() string {
	at := e.File
	if e.Line > 0 {
		at = fmt.Sprintf("%s, line %d", e.File, e.Line)
	}
	return strings.Join(append([]string{fmt.Sprintf("migrate: %s: %v", at, e.err)}, e.hints...), "; ")
}

func (e *StatementError) Unwrap() error { return e.err }

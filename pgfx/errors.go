package pgfx

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
)

var (
	// ErrUnavailable is matched by every [*UnavailableError].
	ErrUnavailable = errors.New("pgfx: database unavailable")
	// ErrAcquireTimeout is matched by every [*AcquireTimeoutError].
	ErrAcquireTimeout = errors.New("pgfx: no connection in time")
	// ErrClosed is returned by a [DB] that was closed.
	ErrClosed = errors.New("pgfx: the database handle is closed")
	// ErrNoSession is what needs a session gets behind a transaction pooler (see [PoolerTransaction]).
	ErrNoSession = errors.New("pgfx: a transaction pooler gives no session: for session locks, LISTEN and the like open a database " +
		"with Config.Pooler direct, past the pooler")
	// ErrNotStarted is the cause in an [*UnavailableError] before Start.
	ErrNotStarted = errors.New("the database handle is not started yet; with Fx, use it from OnStart on and not in constructors")
)

// Cause names why a database cannot be used.
type Cause = sqlstate.Cause

// The causes that [CauseOf] tells apart.
const (
	CauseDNS             = sqlstate.DNS
	CauseRefused         = sqlstate.Refused
	CauseTimeout         = sqlstate.Timeout
	CauseTLS             = sqlstate.TLS
	CauseLogin           = sqlstate.Login
	CauseDatabaseMissing = sqlstate.DatabaseMissing
	CauseStartingUp      = sqlstate.StartingUp
	CauseShuttingDown    = sqlstate.ShuttingDown
	CauseServerFull      = sqlstate.ServerFull
	CauseKilled          = sqlstate.Killed
	CauseReadOnly        = sqlstate.ReadOnly
	CauseUnknown         = sqlstate.Unknown
)

// CauseOf classifies an error of connecting, or of a statement whose connection broke.
func CauseOf(err error) Cause { return sqlstate.CauseOf(err) }

// UnavailableError is what callers get at once, without a dial, while the gate is shut: before Start, while the database
// is down, and after Close. It matches [ErrUnavailable].
type UnavailableError struct {
	// Cause is why: what the last attempt to connect met, ErrNotStarted or ErrClosed.
	Cause error
	// Since is when the gate was shut.
	Since time.Time
}

func (e *UnavailableError) Error() string {
	return fmt.Sprintf("pgfx: database unavailable since %s: %v", e.Since.Format(time.RFC3339), e.Cause)
}

// Is matches ErrUnavailable.
func (e *UnavailableError) Is(target error) bool { return target == ErrUnavailable }

func (e *UnavailableError) Unwrap() error { return e.Cause }

// AcquireTimeoutError says that no connection could be had in time, and who holds them. It matches [ErrAcquireTimeout] and
// context.DeadlineExceeded.
type AcquireTimeoutError struct {
	// Waited is the time from the call to its end.
	Waited time.Duration
	// Max, InUse and Connecting are the pool's limit, the connections held and those being opened at that moment.
	Max, InUse, Connecting int
	// Holders are the leases that were held longest, oldest first, at most three.
	Holders []Lease
}

func (e *AcquireTimeoutError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "pgfx: no connection after %v: %d of %d in use, %d being opened",
		e.Waited.Round(time.Millisecond), e.InUse, e.Max, e.Connecting)
	for _, lease := range e.Holders {
		b.WriteString("; " + lease.String())
	}
	return b.String()
}

// Is matches ErrAcquireTimeout and context.DeadlineExceeded.
func (e *AcquireTimeoutError) Is(target error) bool {
	return target == ErrAcquireTimeout || target == context.DeadlineExceeded
}

// Timeout reports true, as net.Error's method does.
func (e *AcquireTimeoutError) Timeout() bool { return true }

// ConnectError says why a connection could not be made and what to do about it. Unlike pgconn.ConnectError it keeps no
// configuration, and with it no password.
type ConnectError struct {
	// Target is the address in the form user@host:port/database.
	Target string
	// Cause is the kind of failure.
	Cause Cause
	// Attempts is the number of attempts that were made and Elapsed the time they took together.
	Attempts int
	Elapsed  time.Duration

	err error
}

func (e *ConnectError) Error() string {
	var b strings.Builder
	b.WriteString("pgfx: cannot connect to " + e.Target)
	if e.Attempts > 1 {
		fmt.Fprintf(&b, " (%d attempts in %v)", e.Attempts, e.Elapsed.Round(time.Millisecond))
	}
	b.WriteString(": " + oneLine(e.err.Error()))
	if hint := sqlstate.Hint(e.err); hint != "" {
		b.WriteString(": " + hint)
	}
	return b.String()
}

func (e *ConnectError) Unwrap() error { return e.err }

// oneLine joins the lines of pgx's error, one for each address and TLS fallback that was tried, and says each thing once.
func oneLine(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}

// newConnectError takes what matters from err and leaves the configuration behind.
func newConnectError(target string, err error) *ConnectError {
	if inner, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		err = inner.Unwrap()
	}
	return &ConnectError{Target: target, Cause: sqlstate.CauseOf(err), Attempts: 1, err: err}
}

// RoleError says that a server is read-only where Config.Role asks for a writer.
type RoleError struct {
	// Target is where the connection led.
	Target string
}

func (e *RoleError) Error() string {
	return "pgfx: the server at " + e.Target + " is read-only and Config.Role asks for a writer: " +
		"a failover may be under way; for a replica set Role to reader"
}

// Is matches errors of the same kind as the server's own (SQLSTATE 25006) for those who look for the cause.
func (e *RoleError) Is(target error) bool { return target == sqlstate.ErrReadOnly }

// CloseTimeoutError is returned by Close when connections were still held at its ctx's end. Their sockets have been closed, so
// that the server ends what they were doing.
type CloseTimeoutError struct {
	// Leases are the connections that were held, oldest first.
	Leases []Lease
	err    error
}

func (e *CloseTimeoutError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "pgfx: close: %d connections were not returned in time; release them before the application stops", len(e.Leases))
	for _, lease := range e.Leases {
		b.WriteString("; " + lease.String())
	}
	return b.String()
}

func (e *CloseTimeoutError) Unwrap() error { return e.err }

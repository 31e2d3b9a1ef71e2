package pgfx

import (
	"cmp"
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
	// ErrUnavailable matches every [*UnavailableError].
	ErrUnavailable = errors.New("pgfx: database unavailable")
	// ErrAcquireTimeout matches every [*AcquireTimeoutError].
	ErrAcquireTimeout = errors.New("pgfx: timed out waiting for a connection")
	// ErrOverload is matched by every [*OverloadError].
	ErrOverload = errors.New("pgfx: too many callers wait for a connection")
	// ErrConnLost is matched by errors of txn.Manager and of repositories if the connection was lost during the statement.
	ErrConnLost = sqlstate.ErrConnLost
	// ErrClosed is returned after [DB.Close].
	ErrClosed = errors.New("pgfx: database handle is closed")
	// ErrNoSession is returned behind a transaction pooler for work that needs a session (see [PoolerTransaction]).
	ErrNoSession = errors.New("pgfx: no session behind a transaction pooler: for session locks, LISTEN and other session state " +
		"use a database with Config.Pooler direct that bypasses the pooler")
	// ErrNotStarted is the cause of an [*UnavailableError] before [DB.Start].
	ErrNotStarted = errors.New("database handle is not started yet; with Fx, use it in OnStart hooks or later, not in constructors")
	// ErrSetupNotFinished is the cause of an [*UnavailableError] while the setup steps, the schema check included, have not all
	// run. If a step has failed, the cause also wraps its error. [DB.AwaitReady] waits for the end of the setup.
	ErrSetupNotFinished = errors.New("setup not finished")
	// ErrSwitching is the cause of an [*UnavailableError] for a caller that waited too long during a Blue/Green switchover.
	ErrSwitching = errors.New("a Blue/Green switchover is in progress")
)

// Cause is the kind of failure that makes a database unusable. In JSON it is the text of the constant.
type Cause string

// The causes that [CauseOf] returns, ordered from the client to the server.
const (
	// CauseNone is the cause of a nil error.
	CauseNone = Cause(sqlstate.None)
	// CauseDNS ("dns"): the host name does not resolve.
	CauseDNS = Cause(sqlstate.DNS)
	// CauseRefused ("refused"): no server listens at the address, or a pooler does not reach its server.
	CauseRefused = Cause(sqlstate.Refused)
	// CauseTimeout ("timeout"): no reply in time, or no route to the host.
	CauseTimeout = Cause(sqlstate.Timeout)
	// CauseTLS ("tls"): the connection cannot be encrypted, or the certificate is not trusted.
	CauseTLS = Cause(sqlstate.TLS)
	// CauseLogin ("login"): the server refuses the login user or the password.
	CauseLogin = Cause(sqlstate.Login)
	// CauseDatabaseMissing ("database_missing"): the database does not exist.
	CauseDatabaseMissing = Cause(sqlstate.DatabaseMissing)
	// CauseStartingUp ("starting_up"): the server is starting or recovering.
	CauseStartingUp = Cause(sqlstate.StartingUp)
	// CauseShuttingDown ("shutting_down"): the server is shutting down, or an administrator terminated the connection.
	CauseShuttingDown = Cause(sqlstate.ShuttingDown)
	// CauseServerFull ("server_full"): the server or the pooler has no free connection slot.
	CauseServerFull = Cause(sqlstate.ServerFull)
	// CauseKilled ("killed"): the connection was closed or reset while in use.
	CauseKilled = Cause(sqlstate.Killed)
	// CauseReadOnly ("read_only"): the server accepts no writes.
	CauseReadOnly = Cause(sqlstate.ReadOnly)
	// CauseUnknown ("unknown"): any other error. It does not tell whether the database is usable.
	CauseUnknown = Cause(sqlstate.Unknown)
)

// CauseOf classifies an error of connecting, or of a statement whose connection was lost.
func CauseOf(err error) Cause { return Cause(sqlstate.CauseOf(err)) }

// IsUnavailable reports whether err means that the database is unavailable at present. A service responds to such an error with
// status 503. It is true for these errors alone:
//   - [*UnavailableError], [*AcquireTimeoutError], [*OverloadError], [*ConnectError], [*RoleError], pgconn.ConnectError, [ErrClosed],
//   - [ErrConnLost], which the errors of txn.Manager and of repositories match if the connection of a statement was lost,
//   - the server's errors of shutting down, starting up and having no free connection slot (for example SQLSTATE 57P01, 53300).
//
// It is false for errors that other components cause as well: an end of file, a refused connection, a deadline of the caller. It
// is also false for a write in a read-only transaction (SQLSTATE 25006), and if the work was or may have been committed.
//
// An error of the raw pool whose connection was lost can't be distinguished from that of another component, so the result is
// false. If err certainly comes from a statement, see [CauseOf].
func IsUnavailable(err error) bool {
	if err == nil || errors.Is(err, sqlstate.ErrInDoubt) || errors.Is(err, sqlstate.ErrCommitted) {
		return false
	}
	for _, unavailable := range []error{ErrUnavailable, ErrAcquireTimeout, ErrOverload, ErrClosed, ErrConnLost, sqlstate.ErrReadOnly} {
		if errors.Is(err, unavailable) {
			return true
		}
	}
	_, dialing := errors.AsType[*pgconn.ConnectError](err)
	_, connecting := errors.AsType[*ConnectError](err)
	if dialing || connecting {
		return true
	}
	if sqlstate.Code(err) == "" {
		byCaller := errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
		return errors.Is(err, pgconn.ErrConnClosed) && !byCaller
	}
	switch CauseOf(err) {
	case CauseKilled, CauseRefused, CauseTimeout, CauseShuttingDown, CauseStartingUp, CauseServerFull:
		return true
	case CauseNone, CauseDNS, CauseTLS, CauseLogin, CauseDatabaseMissing, CauseReadOnly, CauseUnknown:
	}
	return false
}

// UnavailableError is returned at once, without an attempt to connect, while the gate is closed. The gate is closed until the
// setup steps of [DB.Start] have run, while the database is down, and after [DB.Close]. It matches [ErrUnavailable].
//
// It is also returned instead of an attempt to connect with credentials that the server has refused. The pool logs in again with other
// credentials, or after a pause of 125 ms that doubles to 5 s.
type UnavailableError struct {
	// Cause is the error of the last attempt to connect, [ErrNotStarted], [ErrSetupNotFinished] or [ErrClosed].
	Cause error
	// Since is the time at which the gate was closed, or the login was first refused.
	Since time.Time
}

func (e *UnavailableError) Error() string {
	return fmt.Sprintf("pgfx: database unavailable since %s: %v", e.Since.Format(time.RFC3339), e.Cause)
}

// Is matches ErrUnavailable.
func (e *UnavailableError) Is(target error) bool { return target == ErrUnavailable }

func (e *UnavailableError) Unwrap() error { return e.Cause }

// AcquireTimeoutError is returned if the pool could not provide a connection in time. It names the oldest holders. It matches
// [ErrAcquireTimeout] and context.DeadlineExceeded, and unwraps to Cause.
type AcquireTimeoutError struct {
	// Cause is the outage during which the caller waited. If the database is down, it is an [*UnavailableError]. If the last attempt
	// to connect has failed within the last minute, it is its [*ConnectError]. If connecting works, it is nil.
	Cause error
	// Waited is the time that the caller waited.
	Waited time.Duration
	// Max is the limit of the pool, including MaxOverflow.
	Max int
	// InUse is the number of connections in use at the end of the wait.
	InUse int
	// Connecting is the number of connections being opened at the end of the wait.
	Connecting int
	// Holders holds the leases that had been held longest, oldest first, at most 3.
	Holders []Lease
}

func (e *AcquireTimeoutError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "pgfx: timed out after %v waiting for a connection (%d of %d in use, %d connecting)",
		e.Waited.Round(time.Millisecond), e.InUse, e.Max, e.Connecting)
	for i, lease := range e.Holders {
		if i == 0 {
			b.WriteString("; oldest holders: ")
		} else {
			b.WriteString("; ")
		}
		b.WriteString(lease.String())
	}
	if e.Cause != nil {
		return b.String() + "; " + e.Cause.Error()
	}
	b.WriteString("; raise Pool.MaxConns or hold connections for less time")
	return b.String()
}

func (e *AcquireTimeoutError) Unwrap() error { return e.Cause }

// Is matches ErrAcquireTimeout and context.DeadlineExceeded.
func (e *AcquireTimeoutError) Is(target error) bool {
	return target == ErrAcquireTimeout || target == context.DeadlineExceeded
}

// Timeout returns true. It implements the method of net.Error.
func (e *AcquireTimeoutError) Timeout() bool { return true }

// ConnectError is returned if a connection could not be opened. Its text names the target, the cause and what to check. Unlike
// pgconn.ConnectError it does not hold the configuration, which includes the password.
type ConnectError struct {
	// Target is the address in the form user@host:port/database.
	Target string
	// Cause is the kind of failure.
	Cause Cause
	// Attempts is the number of attempts.
	Attempts int
	// Elapsed is the time since the first attempt began, 0 for a single attempt outside a start.
	Elapsed time.Duration

	err  error
	hint string // replaces the general one
}

func (e *ConnectError) Error() string {
	var b strings.Builder
	b.WriteString("pgfx: cannot connect to " + e.Target)
	if e.Attempts > 1 {
		fmt.Fprintf(&b, " (%d attempts in %v)", e.Attempts, e.Elapsed.Round(time.Millisecond))
	}
	b.WriteString(": " + oneLine(e.err.Error()))
	if hint := cmp.Or(e.hint, sqlstate.Hint(e.err)); hint != "" {
		b.WriteString(": " + hint)
	}
	return b.String()
}

func (e *ConnectError) Unwrap() error { return e.err }

// oneLine joins the lines of pgx's error, one per address and TLS fallback, without repetitions.
func oneLine(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}

// connectError returns a ConnectError for err, without the configuration that pgconn.ConnectError holds.
func (db *DB) connectError(err error) *ConnectError {
	target := db.target
	if inner, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		if db.connConfig.Host == unknownHost {
			target = targetOf(inner.Config)
		}
		err = withoutPlainRetry(inner.Unwrap())
	}
	return &ConnectError{Target: target, Cause: CauseOf(err), Attempts: 1, err: err, hint: db.certificateHint(err)}
}

// withoutPlainRetry removes the errors of attempts without TLS that the server has refused because it requires TLS. With the TLS
// mode prefer they follow the error of the attempt with TLS, and would hide it.
func withoutPlainRetry(err error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return err
	}
	relevant := slices.DeleteFunc(slices.Clone(joined.Unwrap()), sqlstate.IsTLSRequired)
	if len(relevant) == 0 || len(relevant) == len(joined.Unwrap()) {
		return err
	}
	return errors.Join(relevant...)
}

// connectFailure is the last attempt to connect, if it has failed.
type connectFailure struct {
	err *ConnectError
	at  time.Time
}

// maxConnectFailureAge is the age at which a failed attempt no longer explains that a caller gets no connection.
const maxConnectFailureAge = time.Minute

// noteConnect stores the result of an attempt to connect. If it has failed, it returns the ConnectError.
func (db *DB) noteConnect(err error) *ConnectError {
	if err == nil {
		db.connectFailure.Store(nil)
		return nil
	}
	failure := db.connectError(err)
	if inner, ok := errors.AsType[*pgconn.ConnectError](err); ok && failure.Cause == CauseLogin {
		failure.hint = db.loginRefused(inner.Config, failure.err)
	}
	if !errors.Is(err, context.Canceled) && !errors.Is(err, ErrUnavailable) {
		db.connectFailure.Store(&connectFailure{failure, time.Now()})
	}
	return failure
}

// outage returns the reason why callers get no connection, nil if none is known.
func (db *DB) outage() error {
	if err := db.gate.Err(); err != nil && !errors.Is(err, ErrSetupNotFinished) { // setup steps pass that gate
		return err
	}
	if failure := db.connectFailure.Load(); failure != nil && time.Since(failure.at) < maxConnectFailureAge {
		return failure.err
	}
	return nil
}

// RoleError is returned if a server is read-only but Config.Role requires a writer.
type RoleError struct {
	// Target is the address in the form user@host:port/database.
	Target string
}

func (e *RoleError) Error() string {
	return "pgfx: the server at " + e.Target + " is read-only but Config.Role requires a writer: " +
		"a failover may be in progress; for a replica set Role to any"
}

// Is makes [CauseOf] return [CauseReadOnly], as for the server's own error (SQLSTATE 25006).
func (e *RoleError) Is(target error) bool { return target == sqlstate.ErrReadOnly }

// CloseTimeoutError is returned by [DB.Close] if its ctx ended first. Close has then closed the sockets of connections in use, so
// the server ends their work. The error unwraps to the cause of the ctx.
type CloseTimeoutError struct {
	// Leases describes the connections that were in use, oldest first. If Config.Stats.Disabled is set it is empty.
	Leases []Lease
	// Closing is the number of other connections: released, but not closed yet, because the server does not respond. If
	// Config.Stats.Disabled is set it includes those in use.
	Closing int

	err error
}

func (e *CloseTimeoutError) Error() string {
	var b strings.Builder
	b.WriteString("pgfx: close: timed out")
	if n := len(e.Leases); n > 0 {
		fmt.Fprintf(&b, " waiting for connections in use (%d); release them before the application stops", n)
	}
	if e.Closing > 0 {
		fmt.Fprintf(&b, " waiting for released connections to end (%d); the server does not respond", e.Closing)
	}
	if len(e.Leases)+e.Closing == 0 {
		b.WriteString(" waiting for background work, such as a start or a setup step")
	}
	for _, lease := range e.Leases {
		b.WriteString("; " + lease.String())
	}
	return b.String()
}

func (e *CloseTimeoutError) Unwrap() error { return e.err }

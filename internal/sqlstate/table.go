package sqlstate

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
)

// Remedy is what may be done again after an error.
type Remedy uint8

const (
	// Never is for what would only fail again, and for what may have happened.
	Never Remedy = iota
	// Reconnect says that no connection came to be, so that nothing was sent; another attempt may succeed.
	Reconnect
	// Refresh says that the login was refused; one more attempt may succeed, with fresh credentials.
	Refresh
	// Redo says that the server has undone the whole transaction, or the one statement outside of one. All of it may be done again.
	Redo
	// Evict is Redo on another connection: this one leads to a server that takes no writes.
	Evict
	// Repeat says that the connection was lost and nobody knows how far the server came. Only what may happen twice may be done again.
	Repeat
)

// Row is one line of the table: a kind of error, what it means and what may be done about it.
type Row struct {
	// Code is an SQLSTATE, or a class of them (two characters); "" for what the server didn't send.
	Code string
	// Says is a part of the message by which the row differs from others of its code.
	Says string
	// Name is the condition's name in the PostgreSQL manual (of a class: the class's), or a description of a Go error.
	Name string
	// Cause is why the database can't be used, Unknown for an error that doesn't say so.
	Cause Cause
	// Connecting is the remedy while a connection is being made, Using once there was one.
	Connecting, Using Remedy

	is func(error) bool // of a row without a code
}

// The table, in the order in which it is looked through. What isn't in it is Unknown and never done again.
var (
	// verdicts outweigh whatever they wrap.
	verdicts = []Row{
		{Name: "outcome of a commit unknown", Cause: Unknown, is: is(ErrInDoubt)},
		{Name: "read-only server, found by asking", Cause: ReadOnly, Connecting: Evict, Using: Evict, is: is(ErrReadOnly)},
	}

	// answers are what the server says.
	answers = []Row{
		{Code: "08000", Name: "connection_exception", Cause: Killed, Connecting: Reconnect, Using: Repeat},
		{Code: "08001", Name: "sqlclient_unable_to_establish_sqlconnection", Cause: Refused, Connecting: Reconnect},
		{Code: "08003", Name: "connection_does_not_exist", Cause: Killed, Connecting: Reconnect, Using: Repeat},
		{Code: "08004", Name: "sqlserver_rejected_establishment_of_sqlconnection", Cause: Refused, Connecting: Reconnect},
		{Code: "08006", Name: "connection_failure", Cause: Killed, Connecting: Reconnect, Using: Repeat},
		{Code: "08007", Name: "transaction_resolution_unknown", Cause: Unknown},
		// PgBouncer gives this code to all that it says, in English: that it doesn't get to its server or hasn't asked it again since
		// that refused it, that it has no connection to give, and what its server said when it refused it.
		pooler("server_login_retry", Refused, Repeat),
		pooler("cannot connect to server", Refused, Repeat),
		pooler("server conn crashed", Killed, Repeat),
		pooler("max_client_conn", ServerFull, Never),
		pooler("query_wait_timeout", ServerFull, Repeat),
		pooler("too many connections", ServerFull, Never),
		pooler("too many clients", ServerFull, Never),
		pooler("connection slots", ServerFull, Never),
		pooler("the database system is", StartingUp, Never),
		{Code: "08", Name: "Connection Exception", Cause: Unknown},
		{
			// The plan of a prepared statement outlived a change of the table. The server refuses before it does anything, and pgx
			// prepares anew.
			Code: FeatureNotSupported, Says: "cached plan must not change result type", Name: "feature_not_supported", Cause: Unknown, Using: Redo,
		},
		{Code: "0A", Name: "Feature Not Supported", Cause: Unknown},
		{Code: "22", Name: "Data Exception", Cause: Unknown},
		{Code: "23", Name: "Integrity Constraint Violation", Cause: Unknown},
		{Code: ReadOnlySQLTransaction, Name: "read_only_sql_transaction", Cause: ReadOnly, Connecting: Evict, Using: Evict},
		{Code: "25", Name: "Invalid Transaction State", Cause: Unknown},
		// pg_hba.conf wants TLS: rds.force_ssl answers like this.
		{Code: InvalidAuthorizationSpecification, Says: "no encryption", Name: "invalid_authorization_specification", Cause: TLS},
		{Code: InvalidAuthorizationSpecification, Says: "SSL off", Name: "invalid_authorization_specification", Cause: TLS},
		{Code: InvalidAuthorizationSpecification, Name: "invalid_authorization_specification", Cause: Login, Connecting: Refresh},
		{Code: InvalidPassword, Name: "invalid_password", Cause: Login, Connecting: Refresh},
		{Code: "28", Name: "Invalid Authorization Specification", Cause: Unknown},
		{Code: InvalidCatalogName, Name: "invalid_catalog_name", Cause: DatabaseMissing},
		{Code: "3D", Name: "Invalid Catalog Name", Cause: Unknown},
		{Code: SerializationFailure, Name: "serialization_failure", Cause: Unknown, Using: Redo},
		{Code: DeadlockDetected, Name: "deadlock_detected", Cause: Unknown, Using: Redo},
		{Code: "40", Name: "Transaction Rollback", Cause: Unknown},
		{Code: "42", Name: "Syntax Error or Access Rule Violation", Cause: Unknown},
		{Code: "53100", Name: "disk_full", Cause: Unknown},
		{Code: TooManyConnections, Name: "too_many_connections", Cause: ServerFull, Connecting: Reconnect},
		{Code: "53", Name: "Insufficient Resources", Cause: Unknown},
		{Code: QueryCanceled, Name: "query_canceled", Cause: Unknown},
		{Code: AdminShutdown, Name: "admin_shutdown", Cause: ShuttingDown, Connecting: Reconnect, Using: Repeat},
		{Code: CrashShutdown, Name: "crash_shutdown", Cause: ShuttingDown, Connecting: Reconnect, Using: Repeat},
		{Code: CannotConnectNow, Says: "shutting down", Name: "cannot_connect_now", Cause: ShuttingDown, Connecting: Reconnect, Using: Repeat},
		{Code: CannotConnectNow, Name: "cannot_connect_now", Cause: StartingUp, Connecting: Reconnect, Using: Repeat},
		{Code: DatabaseDropped, Name: "database_dropped", Cause: DatabaseMissing},
		{Code: IdleSessionTimeout, Name: "idle_session_timeout", Cause: Unknown, Using: Repeat},
		{Code: "57", Name: "Operator Intervention", Cause: Unknown},
		{Code: "58", Name: "System Error", Cause: Unknown},
		{Code: "XX", Name: "Internal Error", Cause: Unknown},
	}

	// troubles are met on the way to the server. That a name doesn't resolve or an address refuses happens while connecting;
	// but only an error that is known to come from there counts as such.
	troubles = []Row{
		{Name: "cancelled by the caller", Cause: Unknown, is: is(context.Canceled)},
		{Name: "host name not resolved", Cause: DNS, Connecting: Reconnect, Using: Repeat, is: isDNS},
		{Name: "no trusted or no encrypted connection", Cause: TLS, is: isTLS},
		// A missing Unix socket is a server that isn't there.
		{Name: "connection refused", Cause: Refused, Connecting: Reconnect, Using: Repeat, is: is(syscall.ECONNREFUSED, os.ErrNotExist)},
		{Name: "the caller's deadline", Cause: Timeout, Connecting: Reconnect, is: is(context.DeadlineExceeded)},
		{Name: "no answer, no route", Cause: Timeout, Connecting: Reconnect, Using: Repeat, is: isTimeout},
		{Name: "connection lost", Cause: Killed, Connecting: Reconnect, Using: Repeat, is: isKilled},
	}
)

// pooler makes a row for something that PgBouncer says.
func pooler(says string, cause Cause, using Remedy) Row {
	return Row{Code: ProtocolViolation, Says: says, Name: "protocol_violation", Cause: cause, Connecting: Reconnect, Using: using}
}

// Rows returns a copy of the table.
func Rows() []Row { return slices.Concat(verdicts, answers, troubles) }

// Find returns the row that an error falls under, and one that says Unknown and Never when there is none. Of several errors
// in the tree the server's counts first.
func Find(err error) Row {
	if err == nil {
		return Row{Name: "no error"}
	}
	met := func(row Row) bool { return row.is(err) }
	if i := slices.IndexFunc(verdicts, met); i >= 0 {
		return verdicts[i]
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		i := slices.IndexFunc(answers, func(row Row) bool {
			return strings.HasPrefix(pg.Code, row.Code) && strings.Contains(pg.Message, row.Says)
		})
		if i >= 0 {
			return answers[i]
		}
	} else if i := slices.IndexFunc(troubles, met); i >= 0 {
		return troubles[i]
	}
	return Row{Name: "anything else", Cause: Unknown}
}

// RemedyOf returns what may be done again after err. connecting says that err is known to come from making a connection, so
// that none of the work had begun.
func RemedyOf(err error, connecting bool) Remedy {
	row := Find(err)
	if connecting {
		return row.Connecting
	}
	return row.Using
}

// RetryConnect reports whether another attempt to connect can succeed without anybody changing something: the server may
// come up, a slot may become free, a name may resolve. A refused login or a missing database stays as it is.
func RetryConnect(err error) bool {
	remedy := RemedyOf(err, true)
	return remedy == Reconnect || remedy == Evict
}

func is(targets ...error) func(error) bool {
	return func(err error) bool {
		return slices.ContainsFunc(targets, func(target error) bool { return errors.Is(err, target) })
	}
}

func isDNS(err error) bool {
	_, is := errors.AsType[*net.DNSError](err)
	return is
}

func isTLS(err error) bool {
	var (
		verification *tls.CertificateVerificationError
		authority    x509.UnknownAuthorityError
		hostname     x509.HostnameError
		invalid      x509.CertificateInvalidError
		record       tls.RecordHeaderError
		alert        tls.AlertError
	)
	// verify-ca failures are bare x509 errors, verify-full failures are wrapped: test for both.
	return errors.As(err, &verification) || errors.As(err, &authority) || errors.As(err, &hostname) ||
		errors.As(err, &invalid) || errors.As(err, &record) || errors.As(err, &alert) ||
		strings.Contains(err.Error(), "server refused TLS connection")
}

func isTimeout(err error) bool {
	var netErr net.Error
	return pgconn.Timeout(err) || errors.As(err, &netErr) && netErr.Timeout() ||
		is(os.ErrDeadlineExceeded, syscall.EHOSTUNREACH, syscall.ENETUNREACH)(err)
}

func isKilled(err error) bool {
	return is(io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, syscall.ECONNRESET, syscall.EPIPE, pgconn.ErrConnClosed)(err)
}

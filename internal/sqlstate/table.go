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

// Remedy is how work that has failed with an error may be retried.
type Remedy uint8

const (
	// NoRetry is for work that would fail again, and for work that may have been done.
	NoRetry Remedy = iota
	// Reconnect is for a connection that could not be opened: nothing was sent, and another attempt may succeed.
	Reconnect
	// RefreshCredentials is for a refused login: one more attempt with fresh credentials may succeed.
	RefreshCredentials
	// RetryTransaction is for work that the server has rolled back: a whole transaction, or a statement outside a transaction.
	// All of it may be retried.
	RetryTransaction
	// RetryElsewhere is RetryTransaction on another connection, because the server of this one accepts no writes.
	RetryElsewhere
	// RetryIdempotent is for a connection that was lost while the server may have been at work: only idempotent work may be
	// retried.
	RetryIdempotent
)

// Row is one row of the table: a kind of error, its cause and its remedies.
type Row struct {
	// Code is an SQLSTATE or the two characters of a class, "" for an error that is not the server's.
	Code string
	// Routine is the server's function that reports the error, if other errors have the same code, else "".
	Routine string
	// Message is a part of the message, if other errors have the same code, else "". The server translates its messages, so only
	// Cause may depend on one. PgBouncer never translates its messages; a remedy may depend on them too.
	Message string
	// Name is the name of the condition or the class in the PostgreSQL manual, or a description of a Go error.
	Name string
	// Cause is why the database cannot be used, Unknown if the error does not tell.
	Cause Cause
	// Connecting is the remedy while a connection is being opened, Using the one afterwards.
	Connecting, Using Remedy

	is func(error) bool // for rows without a code
}

// The table, in the order of precedence. An error without a row has the cause Unknown and the remedy NoRetry.
var (
	// libraryErrors take precedence over the errors that they wrap.
	libraryErrors = []Row{
		{Name: "outcome of a commit unknown", Cause: Unknown, is: is(ErrInDoubt)},
		{Name: "read-only server, found by a query", Cause: ReadOnly, Connecting: RetryElsewhere, Using: RetryElsewhere, is: is(ErrReadOnly)},
	}

	// serverErrors are errors that the server or PgBouncer sends.
	serverErrors = []Row{
		{Code: "08000", Name: "connection_exception", Cause: Killed, Connecting: Reconnect, Using: RetryIdempotent},
		{Code: "08001", Name: "sqlclient_unable_to_establish_sqlconnection", Cause: Refused, Connecting: Reconnect},
		{Code: "08003", Name: "connection_does_not_exist", Cause: Killed, Connecting: Reconnect, Using: RetryIdempotent},
		{Code: "08004", Name: "sqlserver_rejected_establishment_of_sqlconnection", Cause: Refused, Connecting: Reconnect},
		{Code: "08006", Name: "connection_failure", Cause: Killed, Connecting: Reconnect, Using: RetryIdempotent},
		{Code: "08007", Name: "transaction_resolution_unknown", Cause: Unknown},
		// PgBouncer sends all its errors with this code. Some report that it cannot reach its server or has no free connection,
		// others repeat the message with which the server has refused it.
		poolerRow("server_login_retry", Refused, RetryIdempotent),
		poolerRow("cannot connect to server", Refused, RetryIdempotent),
		poolerRow("server conn crashed", Killed, RetryIdempotent),
		poolerRow("max_client_conn", ServerFull, NoRetry),
		poolerRow("query_wait_timeout", ServerFull, RetryIdempotent),
		poolerRow("too many connections", ServerFull, NoRetry),
		poolerRow("too many clients", ServerFull, NoRetry),
		poolerRow("connection slots", ServerFull, NoRetry),
		poolerRow("the database system is", StartingUp, NoRetry),
		{Code: "08", Name: "Connection Exception", Cause: Unknown},
		{
			// A table has changed since a statement was prepared: "cached plan must not change result type". The server refuses to
			// execute the statement, and pgx prepares it again the next time.
			Code: FeatureNotSupported, Routine: "RevalidateCachedQuery", Name: "feature_not_supported", Cause: Unknown, Using: RetryTransaction,
		},
		{Code: "0A", Name: "Feature Not Supported", Cause: Unknown},
		{Code: "22", Name: "Data Exception", Cause: Unknown},
		{Code: "23", Name: "Integrity Constraint Violation", Cause: Unknown},
		{Code: ReadOnlySQLTransaction, Name: "read_only_sql_transaction", Cause: ReadOnly, Connecting: RetryElsewhere, Using: RetryElsewhere},
		{Code: "25", Name: "Invalid Transaction State", Cause: Unknown},
		// pg_hba.conf requires TLS, for example by rds.force_ssl.
		{Code: InvalidAuthorizationSpecification, Message: "no encryption", Name: "invalid_authorization_specification", Cause: TLS},
		{Code: InvalidAuthorizationSpecification, Message: "SSL off", Name: "invalid_authorization_specification", Cause: TLS},
		{Code: InvalidAuthorizationSpecification, Name: "invalid_authorization_specification", Cause: Login, Connecting: RefreshCredentials},
		{Code: InvalidPassword, Name: "invalid_password", Cause: Login, Connecting: RefreshCredentials},
		{Code: "28", Name: "Invalid Authorization Specification", Cause: Unknown},
		{Code: InvalidCatalogName, Name: "invalid_catalog_name", Cause: DatabaseMissing},
		{Code: "3D", Name: "Invalid Catalog Name", Cause: Unknown},
		{Code: SerializationFailure, Name: "serialization_failure", Cause: Unknown, Using: RetryTransaction},
		{Code: DeadlockDetected, Name: "deadlock_detected", Cause: Unknown, Using: RetryTransaction},
		{Code: "40", Name: "Transaction Rollback", Cause: Unknown},
		{Code: "42", Name: "Syntax Error or Access Rule Violation", Cause: Unknown},
		{Code: "53100", Name: "disk_full", Cause: Unknown},
		{Code: TooManyConnections, Name: "too_many_connections", Cause: ServerFull, Connecting: Reconnect},
		{Code: "53", Name: "Insufficient Resources", Cause: Unknown},
		{Code: QueryCanceled, Name: "query_canceled", Cause: Unknown},
		{Code: AdminShutdown, Name: "admin_shutdown", Cause: ShuttingDown, Connecting: Reconnect, Using: RetryIdempotent},
		{Code: CrashShutdown, Name: "crash_shutdown", Cause: ShuttingDown, Connecting: Reconnect, Using: RetryIdempotent},
		{
			Code: CannotConnectNow, Message: "shutting down", Name: "cannot_connect_now", Cause: ShuttingDown,
			Connecting: Reconnect, Using: RetryIdempotent,
		},
		{Code: CannotConnectNow, Name: "cannot_connect_now", Cause: StartingUp, Connecting: Reconnect, Using: RetryIdempotent},
		{Code: DatabaseDropped, Name: "database_dropped", Cause: DatabaseMissing},
		{Code: IdleSessionTimeout, Name: "idle_session_timeout", Cause: Unknown, Using: RetryIdempotent},
		{Code: "57", Name: "Operator Intervention", Cause: Unknown},
		{Code: "58", Name: "System Error", Cause: Unknown},
		{Code: "XX", Name: "Internal Error", Cause: Unknown},
	}

	// clientErrors are errors of the client and of the network.
	clientErrors = []Row{
		{Name: "cancelled by the caller", Cause: Unknown, is: is(context.Canceled)},
		{Name: "host name not resolved", Cause: DNS, Connecting: Reconnect, Using: RetryIdempotent, is: isDNS},
		{Name: "no trusted or no encrypted connection", Cause: TLS, is: isTLS},
		// A missing Unix socket means that no server runs.
		{Name: "connection refused", Cause: Refused, Connecting: Reconnect, Using: RetryIdempotent, is: is(syscall.ECONNREFUSED, os.ErrNotExist)},
		{Name: "deadline of the caller", Cause: Timeout, Connecting: Reconnect, is: is(context.DeadlineExceeded)},
		{Name: "no reply or no route", Cause: Timeout, Connecting: Reconnect, Using: RetryIdempotent, is: isTimeout},
		{Name: "connection lost", Cause: Killed, Connecting: Reconnect, Using: RetryIdempotent, is: isKilled},
	}
)

// poolerRow returns the row of a message of PgBouncer.
func poolerRow(message string, cause Cause, using Remedy) Row {
	return Row{Code: ProtocolViolation, Message: message, Name: "protocol_violation", Cause: cause, Connecting: Reconnect, Using: using}
}

// Rows returns a copy of the table.
func Rows() []Row { return slices.Concat(libraryErrors, serverErrors, clientErrors) }

// Find returns the row of an error. If err's tree has several errors, the library's takes precedence, then the server's. An
// error without a row gets one with the cause Unknown and the remedy NoRetry.
func Find(err error) Row {
	if err == nil {
		return Row{Name: "no error"}
	}
	matches := func(row Row) bool { return row.is(err) }
	if i := slices.IndexFunc(libraryErrors, matches); i >= 0 {
		return libraryErrors[i]
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		i := slices.IndexFunc(serverErrors, func(row Row) bool {
			return strings.HasPrefix(pg.Code, row.Code) && strings.Contains(pg.Message, row.Message) &&
				(row.Routine == "" || row.Routine == pg.Routine)
		})
		if i >= 0 {
			return serverErrors[i]
		}
	} else if i := slices.IndexFunc(clientErrors, matches); i >= 0 {
		return clientErrors[i]
	}
	return Row{Name: "any other error", Cause: Unknown}
}

// RemedyOf returns how work that failed with err may be retried. connecting states that err is an error of opening a connection,
// so the work has not begun.
func RemedyOf(err error, connecting bool) Remedy {
	row := Find(err)
	if connecting {
		return row.Connecting
	}
	return row.Using
}

// RetryConnect reports whether another attempt to connect may succeed without a change of the configuration. The server may come
// up, a slot may become free, or a name may resolve. A refused login and a missing database are permanent.
func RetryConnect(err error) bool {
	remedy := RemedyOf(err, true)
	return remedy == Reconnect || remedy == RetryElsewhere
}

func is(targets ...error) func(error) bool {
	return func(err error) bool {
		return slices.ContainsFunc(targets, func(target error) bool { return errors.Is(err, target) })
	}
}

// IsTLSRequired reports whether err is the server's refusal of a connection without TLS.
func IsTLSRequired(err error) bool { return Code(err) != "" && CauseOf(err) == TLS }

func isDNS(err error) bool {
	_, ok := errors.AsType[*net.DNSError](err)
	return ok
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

// Package sqlstate classifies database errors: why a connection could not be opened or was lost, and whether the work may be
// retried. It is one table (see [Rows]); it keeps no state and does no I/O.
//
// SQLSTATE codes are those of the PostgreSQL manual, appendix "PostgreSQL Error Codes".
package sqlstate

import (
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// The codes that the library handles, with the condition names of the manual.
const (
	ProtocolViolation                 = "08P01"
	InvalidAuthorizationSpecification = "28000"
	InvalidPassword                   = "28P01"
	InvalidCatalogName                = "3D000"
	TooManyConnections                = "53300"
	AdminShutdown                     = "57P01"
	CrashShutdown                     = "57P02"
	CannotConnectNow                  = "57P03"
	DatabaseDropped                   = "57P04"
	IdleSessionTimeout                = "57P05"
	QueryCanceled                     = "57014"
	ReadOnlySQLTransaction            = "25006"
	IdleInTransactionSessionTimeout   = "25P03"
	SerializationFailure              = "40001"
	DeadlockDetected                  = "40P01"
	FeatureNotSupported               = "0A000"
	InvalidColumnReference            = "42P10"
	StringTooLong                     = "22001"
	CharacterNotInRepertoire          = "22021"
	DivisionByZero                    = "22012"
	UniqueViolation                   = "23505"
	ForeignKeyViolation               = "23503"
	CheckViolation                    = "23514"
	NotNullViolation                  = "23502"
	ExclusionViolation                = "23P01"
	UndefinedTable                    = "42P01"
	UndefinedColumn                   = "42703"
	InsufficientPrivilege             = "42501"
	GeneratedAlways                   = "428C9"
)

// Code returns the SQLSTATE of the server's error in err's tree, "" if there is none.
func Code(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}

// Class returns the first two characters of the SQLSTATE, "" if there is none.
func Class(err error) string {
	if code := Code(err); len(code) == len("00000") {
		return code[:2]
	}
	return ""
}

// Cause is why a database cannot be used.
type Cause string

// The causes, ordered from the client to the server.
const (
	None            Cause = ""
	DNS             Cause = "dns"              // the host name does not resolve
	Refused         Cause = "refused"          // no server listens at the address
	Timeout         Cause = "timeout"          // no reply in time
	TLS             Cause = "tls"              // no encrypted or no trusted connection
	Login           Cause = "login"            // the server refuses the login user or the password
	DatabaseMissing Cause = "database_missing" // there is no such database
	StartingUp      Cause = "starting_up"      // the server is starting or recovering
	ShuttingDown    Cause = "shutting_down"    // the server is shutting down, or an administrator terminated the connection
	ServerFull      Cause = "server_full"      // no connection slot is free
	Killed          Cause = "killed"           // the connection was closed or reset while in use
	ReadOnly        Cause = "read_only"        // the server accepts no writes
	Unknown         Cause = "unknown"          // any other error
)

var (
	// ErrReadOnly matches the library's own errors about a read-only server.
	ErrReadOnly = errors.New("the server is read-only")
	// ErrInDoubt matches errors after which the outcome of a COMMIT is unknown. Work is never retried then, whatever else the
	// error wraps.
	ErrInDoubt = errors.New("the outcome of a commit is unknown")
	// ErrCommitted matches errors after which the work was committed, whatever else the error wraps.
	ErrCommitted = errors.New("the work was committed")
)

// CauseOf classifies an error of connecting, or of a statement whose connection was lost. It returns None for nil, and Unknown for
// an error that does not tell whether the server is available.
func CauseOf(err error) Cause { return Find(err).Cause }

// Hint returns what to do about an error of connecting, "" if that is unknown.
func Hint(err error) string {
	switch CauseOf(err) {
	case DNS:
		return "check the host name and the resolver"
	case Refused:
		return "check that the server runs and listens at this host and port"
	case Timeout:
		return "check routes, security groups and firewalls between here and the server"
	case TLS:
		return tlsHint(err)
	case Login:
		return "the password is wrong, the role doesn't exist, its password has expired, or pg_hba.conf refuses it"
	case DatabaseMissing:
		return "create the database or correct its name"
	case StartingUp:
		return "the server is starting or recovering"
	case ShuttingDown:
		return "the server is shutting down"
	case ServerFull:
		return fullHint(err.Error())
	case Killed:
		return "something between here and the server closes connections, or the server crashes"
	case ReadOnly:
		return "a failover may be under way"
	case Unknown:
		return poolerHint(err)
	case None:
	}
	return ""
}

func tlsHint(err error) string {
	if Code(err) != "" {
		return "the server requires TLS, on RDS by the parameter rds.force_ssl: " +
			"set the TLS mode to verify-full and the CA file to the RDS CA bundle"
	}
	return "check the TLS mode and the CA file (for RDS: verify-full with the RDS CA bundle)"
}

// poolerHint returns the hint for settings that PgBouncer refuses.
func poolerHint(err error) string {
	if Code(err) == ProtocolViolation && strings.Contains(err.Error(), "unsupported startup parameter") {
		return "PgBouncer accepts no settings at login: set them with alter role, or add them to ignore_startup_parameters, which drops them"
	}
	return ""
}

// fullHint returns the hint for the limit that an error text names.
func fullHint(text string) string {
	switch {
	case strings.Contains(text, "max_client_conn"), strings.Contains(text, "query_wait_timeout"):
		return "PgBouncer gives no connection: raise max_client_conn or the size of its pools, or make the applications' pools smaller"
	case strings.Contains(text, "for role"):
		return "raise the role's connection limit or make the pools that use it smaller"
	default:
		return "all connection slots of the server are taken: make pools smaller or raise max_connections"
	}
}

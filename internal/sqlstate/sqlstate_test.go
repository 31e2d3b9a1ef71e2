package sqlstate_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
)

func pg(code, message string) error { return &pgconn.PgError{Code: code, Message: message} }

func TestCauseOf_WithRetryAndHint(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err   error
		cause sqlstate.Cause
		retry bool
		hint  string
	}{
		"nil":                         {nil, sqlstate.None, false, ""},
		"name not found":              {&net.DNSError{IsNotFound: true}, sqlstate.DNS, true, "check the host name and the resolver"},
		"refused":                     {&net.OpError{Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, sqlstate.Refused, true, "check that the server runs and listens at this host and port"},
		"no socket":                   {&net.OpError{Err: os.NewSyscallError("connect", syscall.ENOENT)}, sqlstate.Refused, true, "check that the server runs and listens at this host and port"},
		"deadline":                    {context.DeadlineExceeded, sqlstate.Timeout, true, "check routes, security groups and firewalls between here and the server"},
		"io deadline":                 {&net.OpError{Err: os.ErrDeadlineExceeded}, sqlstate.Timeout, true, "check routes, security groups and firewalls between here and the server"},
		"no route":                    {os.NewSyscallError("connect", syscall.EHOSTUNREACH), sqlstate.Timeout, true, "check routes, security groups and firewalls between here and the server"},
		"unknown ca":                  {x509.UnknownAuthorityError{}, sqlstate.TLS, false, "check the TLS mode and the CA file (for RDS: verify-full with the RDS CA bundle)"},
		"unknown ca, wrapped":         {&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, sqlstate.TLS, false, "check the TLS mode and the CA file (for RDS: verify-full with the RDS CA bundle)"},
		"wrong name":                  {x509.HostnameError{Certificate: &x509.Certificate{}}, sqlstate.TLS, false, "check the TLS mode and the CA file (for RDS: verify-full with the RDS CA bundle)"},
		"expired":                     {x509.CertificateInvalidError{}, sqlstate.TLS, false, "check the TLS mode and the CA file (for RDS: verify-full with the RDS CA bundle)"},
		"no tls on the server":        {errors.New("tls error: server refused TLS connection"), sqlstate.TLS, false, "check the TLS mode and the CA file (for RDS: verify-full with the RDS CA bundle)"},
		"tls is forced":               {pg("28000", `no pg_hba.conf entry for host "::1", user "a", database "b", no encryption`), sqlstate.TLS, false, "the server requires TLS, on RDS by the parameter rds.force_ssl: set the TLS mode to verify-full and the CA file to the RDS CA bundle"},
		"wrong password":              {pg("28P01", "password authentication failed"), sqlstate.Login, false, "the password is wrong, the role doesn't exist, its password has expired, or pg_hba.conf refuses it"},
		"no such role":                {pg("28000", `role "x" does not exist`), sqlstate.Login, false, "the password is wrong, the role doesn't exist, its password has expired, or pg_hba.conf refuses it"},
		"no such database":            {pg("3D000", ""), sqlstate.DatabaseMissing, false, "create the database or correct its name"},
		"starting up":                 {pg("57P03", "the database system is starting up"), sqlstate.StartingUp, true, "the server is starting or recovering"},
		"shutting down":               {pg("57P03", "the database system is shutting down"), sqlstate.ShuttingDown, true, "the server is shutting down"},
		"terminated":                  {pg("57P01", ""), sqlstate.ShuttingDown, true, "the server is shutting down"},
		"crashed":                     {pg("57P02", ""), sqlstate.ShuttingDown, true, "the server is shutting down"},
		"full":                        {pg("53300", "sorry, too many clients already"), sqlstate.ServerFull, true, "all connection slots of the server are taken: make pools smaller or raise max_connections"},
		"full for a role":             {pg("53300", `too many connections for role "app"`), sqlstate.ServerFull, true, "raise the role's connection limit or make the pools that use it smaller"},
		"a pooler without settings":   {pg("08P01", "unsupported startup parameter: statement_timeout"), sqlstate.Unknown, false, "PgBouncer accepts no settings at login: set them with alter role, or add them to ignore_startup_parameters, which drops them"},
		"a pooler without slots":      {pg("08P01", "no more connections allowed (max_client_conn)"), sqlstate.ServerFull, true, "PgBouncer gives no connection: raise max_client_conn or the size of its pools, or make the applications' pools smaller"},
		"a pooler without its server": {pg("08P01", "server login has been failing, try again later (server_login_retry)"), sqlstate.Refused, true, "check that the server runs and listens at this host and port"},
		"closed":                      {io.EOF, sqlstate.Killed, true, "something between here and the server closes connections, or the server crashes"},
		"closed in the middle":        {io.ErrUnexpectedEOF, sqlstate.Killed, true, "something between here and the server closes connections, or the server crashes"},
		"reset":                       {syscall.ECONNRESET, sqlstate.Killed, true, "something between here and the server closes connections, or the server crashes"},
		"connection was closed":       {pgconn.ErrConnClosed, sqlstate.Killed, true, "something between here and the server closes connections, or the server crashes"},
		"read-only":                   {pg("25006", ""), sqlstate.ReadOnly, true, "a failover may be under way"},
		"a wrong role":                {sqlstate.ErrReadOnly, sqlstate.ReadOnly, true, "a failover may be under way"},
		"a wrong statement":           {pg("42601", "syntax error"), sqlstate.Unknown, false, ""},
		"anything":                    {errors.New("anything"), sqlstate.Unknown, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, err := range []error{test.err, fmt.Errorf("wrapped: %w", test.err)} {
				if test.err == nil {
					err = nil
				}
				assert.Equal(t, test.cause, sqlstate.CauseOf(err))
				assert.Equal(t, test.retry, sqlstate.RetryConnect(err))
				assert.Equal(t, test.hint, sqlstate.Hint(err))
			}
		})
	}
}

func TestCauseOf_TheFirstOfSeveralAttempts(t *testing.T) {
	t.Parallel()
	// With sslmode=prefer the second attempt is made without TLS, and its error is misleading.
	err := errors.Join(x509.UnknownAuthorityError{}, errors.New("anything else"))
	assert.Equal(t, sqlstate.TLS, sqlstate.CauseOf(err))
}

func TestCode_AndClass(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "23505", sqlstate.Code(fmt.Errorf("wrapped: %w", pg("23505", ""))))
	assert.Equal(t, "23", sqlstate.Class(pg("23505", "")))
	assert.Empty(t, sqlstate.Code(io.EOF))
	assert.Empty(t, sqlstate.Class(io.EOF))
}

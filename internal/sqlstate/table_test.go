package sqlstate_test

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
)

func TestTable_EveryRow(t *testing.T) {
	t.Parallel()
	covered := map[string]bool{}
	id := func(row sqlstate.Row) string {
		return strings.Join([]string{row.Code, row.Routine + row.Message, row.Name}, "|")
	}
	for _, test := range []struct {
		err               error
		row               string
		connecting, using sqlstate.Remedy
	}{
		{sqlstate.ErrInDoubt, "||outcome of a commit unknown", sqlstate.NoRetry, sqlstate.NoRetry},
		{errors.Join(sqlstate.ErrInDoubt, io.EOF), "||outcome of a commit unknown", sqlstate.NoRetry, sqlstate.NoRetry},
		{errors.Join(pg("40001", ""), sqlstate.ErrInDoubt), "||outcome of a commit unknown", sqlstate.NoRetry, sqlstate.NoRetry},
		{sqlstate.ErrReadOnly, "||read-only server, found by a query", sqlstate.RetryElsewhere, sqlstate.RetryElsewhere},

		{pg("08000", ""), "08000||connection_exception", sqlstate.Reconnect, sqlstate.RetryIdempotent},
		{pg("08001", ""), "08001||sqlclient_unable_to_establish_sqlconnection", sqlstate.Reconnect, sqlstate.NoRetry},
		{pg("08003", ""), "08003||connection_does_not_exist", sqlstate.Reconnect, sqlstate.RetryIdempotent},
		{pg("08004", ""), "08004||sqlserver_rejected_establishment_of_sqlconnection", sqlstate.Reconnect, sqlstate.NoRetry},
		{pg("08006", ""), "08006||connection_failure", sqlstate.Reconnect, sqlstate.RetryIdempotent},
		{pg("08007", ""), "08007||transaction_resolution_unknown", sqlstate.NoRetry, sqlstate.NoRetry},
		{pg("08P01", `server login has been failing, try again later (server_login_retry)`), "08P01|server_login_retry|protocol_violation", sqlstate.Reconnect, sqlstate.RetryIdempotent},
		{pg("08P01", `pgbouncer cannot connect to server`), "08P01|cannot connect to server|protocol_violation", sqlstate.Reconnect, sqlstate.RetryIdempotent},
		{pg("08P01", `server conn crashed?`), "08P01|server conn crashed|protocol_violation", sqlstate.Reconnect, sqlstate.RetryIdempotent},
		{pg("08P01", `no more connections allowed (max_client_conn)`), "08P01|max_client_conn|protocol_violation", sqlstate.Reconnect, sqlstate.NoRetry},
		{pg("08P01", `query_wait_timeout`), "08P01|query_wait_timeout|protocol_violation", sqlstate.Reconnect, sqlstate.RetryIdempotent},
		{pg("08P01", `too many connections for database "x"`), "08P01|too many connections|protocol_violation", sqlstate.Reconnect, sqlstate.NoRetry},
		{pg("08P01", `sorry, too many clients already`), "08P01|too many clients|protocol_violation", sqlstate.Reconnect, sqlstate.NoRetry},
		{pg("08P01", `remaining connection slots are reserved`), "08P01|connection slots|protocol_violation", sqlstate.Reconnect, sqlstate.NoRetry},
		{pg("08P01", `the database system is starting up`), "08P01|the database system is|protocol_violation", sqlstate.Reconnect, sqlstate.NoRetry},
		{pg("08P01", ""), "08||Connection Exception", sqlstate.NoRetry, sqlstate.NoRetry},
		{
			&pgconn.PgError{Code: "0A000", Routine: "RevalidateCachedQuery"},
			"0A000|RevalidateCachedQuery|feature_not_supported", sqlstate.NoRetry, sqlstate.RetryTransaction,
		},
		{pg("0A000", "not yet"), "0A||Feature Not Supported", sqlstate.NoRetry, sqlstate.NoRetry},
		{pg("22012", "division by zero"), "22||Data Exception", sqlstate.NoRetry, sqlstate.NoRetry},
		{pg("23505", "duplicate key"), "23||Integrity Constraint Violation", sqlstate.NoRetry, sqlstate.NoRetry},
		{pg("25006", ""), "25006||read_only_sql_transaction", sqlstate.RetryElsewhere, sqlstate.RetryElsewhere},
		{pg("25P02", ""), "25||Invalid Transaction State", sqlstate.NoRetry, sqlstate.NoRetry},
		{pg("28000", "no encryption"), "28000|no encryption|invalid_authorization_specification", sqlstate.NoRetry, sqlstate.NoRetry},
		{pg("28000", "SSL off"), "28000|SSL off|invalid_authorization_specification", sqlstate.NoRetry, sqlstate.NoRetry},
		{pg("28000", `role "x" does not exist`), "28000||invalid_authorization_specification", sqlstate.RefreshCredentials, sqlstate.NoRetry},
		{pg("28P01", ""), "28P01||invalid_password", sqlstate.RefreshCredentials, sqlstate.NoRetry},
		{pg("28999", ""), "28||Invalid Authorization Specification", sqlstate.NoRetry, sqlstate.NoRetry},
		{pg("3D000", ""), "3D000||invalid_catalog_name", sqlstate.NoRetry, sqlstate.NoRetry},
		{pg("3D999", ""), "3D||Invalid Catalog Name", sqlstate.NoRetry, sqlstate.NoRetry},
		{pg("40001", ""), "40001||serialization_failure", sqlstate.NoRetry, sqlstate.RetryTransaction},
		{pg("40P01", ""), "40P01||deadlock_detected", sqlstate.NoRetry, sqlstate.RetryTransaction},
		{pg("40003", ""), "40||Transaction Rollback", sqlstate.NoRetry, sqlstate.NoRetry},
		{pg("42601", ""), "42||Syntax Error or Access Rule Violation", sqlstate.NoRetry, sqlstate.NoRetry},
		{pg("53100", ""), "53100||disk_full", sqlstate.NoRetry, sqlstate.NoRetry},
		{pg("53300", ""), "53300||too_many_connections", sqlstate.Reconnect, sqlstate.NoRetry},
		{pg("53200", ""), "53||Insufficient Resources", sqlstate.NoRetry, sqlstate.NoRetry},
		{pg("57014", ""), "57014||query_canceled", sqlstate.NoRetry, sqlstate.NoRetry},
		{errors.Join(context.DeadlineExceeded, pg("57014", "")), "57014||query_canceled", sqlstate.NoRetry, sqlstate.NoRetry},
		{pg("57P01", ""), "57P01||admin_shutdown", sqlstate.Reconnect, sqlstate.RetryIdempotent},
		{pg("57P02", ""), "57P02||crash_shutdown", sqlstate.Reconnect, sqlstate.RetryIdempotent},
		{pg("57P03", "is shutting down"), "57P03|shutting down|cannot_connect_now", sqlstate.Reconnect, sqlstate.RetryIdempotent},
		{pg("57P03", "is starting up"), "57P03||cannot_connect_now", sqlstate.Reconnect, sqlstate.RetryIdempotent},
		{pg("57P04", ""), "57P04||database_dropped", sqlstate.NoRetry, sqlstate.NoRetry},
		{pg("57P05", ""), "57P05||idle_session_timeout", sqlstate.NoRetry, sqlstate.RetryIdempotent},
		{pg("57000", ""), "57||Operator Intervention", sqlstate.NoRetry, sqlstate.NoRetry},
		{pg("58030", ""), "58||System Error", sqlstate.NoRetry, sqlstate.NoRetry},
		{pg("XX000", ""), "XX||Internal Error", sqlstate.NoRetry, sqlstate.NoRetry},

		{context.Canceled, "||cancelled by the caller", sqlstate.NoRetry, sqlstate.NoRetry},
		{errors.Join(io.EOF, context.Canceled), "||cancelled by the caller", sqlstate.NoRetry, sqlstate.NoRetry},
		{&net.DNSError{}, "||host name not resolved", sqlstate.Reconnect, sqlstate.RetryIdempotent},
		{x509.UnknownAuthorityError{}, "||no trusted or no encrypted connection", sqlstate.NoRetry, sqlstate.NoRetry},
		{syscall.ECONNREFUSED, "||connection refused", sqlstate.Reconnect, sqlstate.RetryIdempotent},
		{context.DeadlineExceeded, "||deadline of the caller", sqlstate.Reconnect, sqlstate.NoRetry},
		{os.ErrDeadlineExceeded, "||no reply or no route", sqlstate.Reconnect, sqlstate.RetryIdempotent},
		{syscall.ETIMEDOUT, "||no reply or no route", sqlstate.Reconnect, sqlstate.RetryIdempotent},
		{io.ErrUnexpectedEOF, "||connection lost", sqlstate.Reconnect, sqlstate.RetryIdempotent},
		{pgconn.ErrConnClosed, "||connection lost", sqlstate.Reconnect, sqlstate.RetryIdempotent},

		{errors.New("conn busy"), "||any other error", sqlstate.NoRetry, sqlstate.NoRetry},
		{pg("55P03", ""), "||any other error", sqlstate.NoRetry, sqlstate.NoRetry},
		{errors.New("anything"), "||any other error", sqlstate.NoRetry, sqlstate.NoRetry},
		{nil, "||no error", sqlstate.NoRetry, sqlstate.NoRetry},
	} {
		row := sqlstate.Find(test.err)
		covered[id(row)] = true
		name := fmt.Sprintf("%v", test.err)
		assert.Equal(t, test.row, id(row), name)
		assert.Equal(t, test.connecting, sqlstate.RemedyOf(test.err, true), "connecting: %s", name)
		assert.Equal(t, test.using, sqlstate.RemedyOf(test.err, false), "using: %s", name)
		if test.err != nil {
			assert.Equal(t, test.using, sqlstate.RemedyOf(fmt.Errorf("wrapped: %w", test.err), false), "wrapped: %s", name)
		}
	}
	for _, row := range sqlstate.Rows() {
		assert.True(t, covered[id(row)], "no test covers the row %s", id(row))
	}
}

// TestTable_HasTheNamesOfTheManual compares the table with errcodes.txt, from which PostgreSQL generates its lists.
func TestTable_HasTheNamesOfTheManual(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("/usr/share/postgresql/*/errcodes.txt")
	require.NoError(t, err)
	if len(files) == 0 {
		t.Skip("no errcodes.txt: install PostgreSQL with its files in /usr/share/postgresql")
	}
	file, err := os.Open(files[len(files)-1])
	require.NoError(t, err)
	defer func() { require.NoError(t, file.Close()) }()
	names := map[string]string{}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if class, is := strings.CutPrefix(lines.Text(), "Section: Class "); is {
			code, name, _ := strings.Cut(class, " - ")
			name, _, _ = strings.Cut(name, " (")
			names[code] = name
		} else if fields := strings.Fields(lines.Text()); len(fields) == 4 && fields[0][0] != '#' {
			names[fields[0]] = fields[3]
		}
	}
	require.NoError(t, lines.Err())
	classes := map[string]bool{}
	for _, row := range sqlstate.Rows() {
		if row.Code != "" {
			assert.Equal(t, names[row.Code], row.Name, row.Code)
			classes[row.Code] = true
		}
	}
	for _, row := range sqlstate.Rows() {
		if len(row.Code) > 2 {
			assert.True(t, classes[row.Code[:2]], "the class of %s has no row", row.Code)
		}
	}
}

package pgfx_test

import (
	"context"
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
	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestIsUnavailable_OnlyForErrorsOfDatabase(t *testing.T) {
	t.Parallel()
	pg := func(code string) error { return &pgconn.PgError{Code: code} }
	lost := sqlstate.StatementError(t.Context(), io.ErrUnexpectedEOF)
	refused := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	for name, test := range map[string]struct {
		err  error
		want bool
	}{
		"gate":                   {&pgfx.UnavailableError{Cause: errTestCause}, true},
		"acquire timeout":        {&pgfx.AcquireTimeoutError{}, true},
		"overload":               {&pgfx.OverloadError{}, true},
		"closed":                 {pgfx.ErrClosed, true},
		"connect":                {&pgfx.ConnectError{}, true},
		"connect of pgx":         {&pgconn.ConnectError{Config: &pgconn.Config{}}, true},
		"wrong role":             {&pgfx.RoleError{}, true},
		"connection lost":        {lost, true},
		"connection closed":      {pgconn.ErrConnClosed, true},
		"terminated":             {pg("57P01"), true},
		"starting up":            {pg("57P03"), true},
		"full":                   {pg("53300"), true},
		"none":                   {nil, false},
		"end of a request body":  {io.EOF, false},
		"cut request body":       {io.ErrUnexpectedEOF, false},
		"deadline of the caller": {context.DeadlineExceeded, false},
		"cancelled":              {context.Canceled, false},
		"cancelled statement":    {errors.Join(context.DeadlineExceeded, pg("57014")), false},
		"closed by a deadline":   {errors.Join(context.DeadlineExceeded, pgconn.ErrConnClosed), false},
		"write in a GET":         {pg("25006"), false},
		"another service":        {refused, false},
		"constraint":             {pg("23505"), false},
		"value":                  {pg("22003"), false},
		"outcome unknown":        {errors.Join(sqlstate.ErrInDoubt, lost), false},
		"committed":              {errors.Join(sqlstate.ErrCommitted, lost), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, test.want, pgfx.IsUnavailable(test.err))
			if test.err != nil {
				assert.Equal(t, test.want, pgfx.IsUnavailable(fmt.Errorf("wrapped: %w", test.err)))
			}
		})
	}
}

var errTestCause = errors.New("a cause")

package telemetry

import (
	"context"
	"errors"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

// errorType returns the value of error.type: the SQLSTATE of an error of the server, otherwise one of a few words. It never holds a
// part of the error's text, which may quote values.
func errorType(err error) (errorType, code string) {
	if code := sqlstate.Code(err); code != "" {
		return code, code
	}
	switch {
	case errors.Is(err, pgfx.ErrAcquireTimeout):
		return "acquire_timeout", ""
	case errors.Is(err, pgfx.ErrUnavailable):
		return "unavailable", ""
	case errors.Is(err, context.Canceled):
		return "canceled", ""
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout", ""
	}
	if cause := sqlstate.CauseOf(err); cause != sqlstate.Unknown {
		return string(cause), "" // dns, refused, killed, …
	}
	return "_OTHER", ""
}

package health

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

// evidence is what the failures of the pool's traffic say about the database. It decides nothing: it makes the monitor look.
type signal uint8

const (
	// soft: something took too long, which may have many reasons.
	suspected signal = 1 << iota
	// strong: a connection broke, or the server said that it is in trouble.
	confirmed
	// connects: a new connection failed, whatever the old ones do.
	connectFailed
	// refusedWrite: a statement met a read-only transaction: the application's own, or the server has been demoted.
	writeRefused
)

// Looks that traffic has triggered are this far apart, so that a thousand failures cost one look.
const (
	confirmedGap = minGap
	suspectedGap = time.Second
)

// weigh says what an error of the pool's traffic is evidence of, 0 for nothing.
func signalOf(err error) signal {
	code := sqlstate.Code(err)
	switch {
	case code == sqlstate.ReadOnlySQLTransaction:
		return confirmed | writeRefused
	case code == "" && (errors.Is(err, context.Canceled) || errors.Is(err, pgfx.ErrUnavailable)):
		return 0
	}
	var e signal
	switch pgfx.CauseOf(err) {
	case pgfx.CauseNone, pgfx.CauseUnknown:
		return 0
	case pgfx.CauseTimeout:
		e = suspected
	default:
		e = confirmed
	}
	if _, connecting := errors.AsType[*pgconn.ConnectError](err); connecting {
		e |= connectFailed
	}
	return e
}

// gap is how soon after a look the evidence asks for the next.
func (e signal) gap() time.Duration {
	if e&confirmed != 0 {
		return confirmedGap
	}
	return suspectedGap
}

// hear takes in an error of the pool's traffic.
func (m *Monitor) recordFailure(err error) {
	e := signalOf(err)
	if e == 0 {
		return
	}
	m.mu.Lock()
	sooner := false
	if e&connectFailed == 0 || m.status.Cause == "" { // that new connections fail is known where there is a cause, and paced
		m.signals |= e
		sooner = m.schedule.moveUp(e.gap())
	}
	m.mu.Unlock()
	if sooner {
		m.wake()
	}
}

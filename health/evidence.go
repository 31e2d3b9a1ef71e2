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
type evidence uint8

const (
	// soft: something took too long, which may have many reasons.
	soft evidence = 1 << iota
	// strong: a connection broke, or the server said that it is in trouble.
	strong
	// connects: a new connection failed, whatever the old ones do.
	connects
	// refusedWrite: a statement met a read-only transaction: the application's own, or the server has been demoted.
	refusedWrite
)

// Looks that traffic has triggered are this far apart, so that a thousand failures cost one look.
const (
	strongGap = leastGap
	softGap   = time.Second
)

// weigh says what an error of the pool's traffic is evidence of, 0 for nothing.
func weigh(err error) evidence {
	code := sqlstate.Code(err)
	switch {
	case code == sqlstate.ReadOnlySQLTransaction:
		return strong | refusedWrite
	case code == "" && (errors.Is(err, context.Canceled) || errors.Is(err, pgfx.ErrUnavailable)):
		return 0
	}
	var e evidence
	switch pgfx.CauseOf(err) {
	case pgfx.CauseNone, pgfx.CauseUnknown:
		return 0
	case pgfx.CauseTimeout:
		e = soft
	default:
		e = strong
	}
	if _, connecting := errors.AsType[*pgconn.ConnectError](err); connecting {
		e |= connects
	}
	return e
}

// gap is how soon after a look the evidence asks for the next.
func (e evidence) gap() time.Duration {
	if e&strong != 0 {
		return strongGap
	}
	return softGap
}

// hear takes in an error of the pool's traffic.
func (m *Monitor) hear(err error) {
	e := weigh(err)
	if e == 0 {
		return
	}
	m.mu.Lock()
	sooner := false
	if e&connects == 0 || m.status.Cause == "" { // that new connections fail is known where there is a cause, and paced
		m.heard |= e
		sooner = m.schedule.pull(e.gap())
	}
	m.mu.Unlock()
	if sooner {
		m.reschedule()
	}
}

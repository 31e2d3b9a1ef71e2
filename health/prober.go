package health

import (
	"context"
	"fmt"
	"time"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// prober probes a database on a connection outside the pool. It decides nothing and changes nothing. Its methods are not safe
// for concurrent use.
type prober struct {
	db          *pgfx.DB
	timeout     time.Duration // of one probe
	keptTimeout time.Duration // of the attempt on the kept connection
	maxAge      time.Duration // of the kept connection; 0 for no limit
	kept        *session
}

// probeOutcome is the result of one probe: the server's description, or why there is none.
type probeOutcome struct {
	server      Server
	err         error
	cause       pgfx.Cause
	latency     time.Duration // of the round trip
	newConn     bool          // the probe opened a connection
	suspectPool bool          // the kept connection is lost or unresponsive, while a new one works
	keptWorks   bool          // the kept connection works, while a new one failed
}

// The attempt on the kept connection gets 1/keptTimeoutShare of the probe's timeout, and at most maxKeptTimeout.
const (
	keptTimeoutShare = 4
	maxKeptTimeout   = 300 * time.Millisecond
)

func newProber(db *pgfx.DB) *prober {
	config := db.Config()
	return &prober{
		db: db, timeout: config.Health.Timeout, maxAge: max(0, config.Pool.MaxConnLifetime),
		keptTimeout: min(config.Health.Timeout/keptTimeoutShare, maxKeptTimeout),
	}
}

// probe probes the database within the timeout. It uses the connection kept from the previous probe. If that one is lost or does
// not respond in time, a new connection decides. Then the outcome reports that the pool's connections may be broken too. With
// needNewConn, a new connection decides in any case. If ctx itself ends, the outcome means nothing.
func (p *prober) probe(ctx context.Context, needNewConn bool) probeOutcome {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	old := p.kept
	p.kept = nil
	if old == nil {
		return p.probeNewConn(ctx)
	}
	needNewConn = needNewConn || p.maxAge > 0 && time.Since(old.opened) > p.maxAge

	keptCtx, cancelKept := context.WithTimeout(ctx, p.keptTimeout)
	server, latency, err := old.probe(keptCtx)
	cancelKept()
	if err == nil && !needNewConn {
		p.kept = old
		return probeOutcome{server: server, latency: latency}
	}
	outcome := p.probeNewConn(ctx)
	late, hasLate := old.lateResponse()
	switch {
	case outcome.err != nil && err == nil:
		p.kept = old
		outcome.keptWorks = true
		return outcome
	case outcome.err != nil && hasLate: // the old connection is slow, but it works
		p.kept = old
		return probeOutcome{server: late, latency: outcome.latency}
	}
	outcome.suspectPool = outcome.err == nil && err != nil && old.isDead()
	old.close()
	return outcome
}

// probeNewConn opens a connection and probes on it, because some servers accept connections and then kill them. It keeps the
// connection if the probe succeeds.
func (p *prober) probeNewConn(ctx context.Context) probeOutcome {
	began := time.Now()
	conn, err := p.db.Connect(ctx, "health")
	if err != nil {
		return probeOutcome{err: err, cause: pgfx.CauseOf(err), newConn: true, latency: time.Since(began)}
	}
	next, err := newSession(conn)
	if err != nil {
		return probeOutcome{err: err, cause: pgfx.CauseUnknown, newConn: true, latency: time.Since(began)}
	}
	server, latency, err := next.probe(ctx)
	if err != nil {
		next.close()
		err = fmt.Errorf("health: the server accepted a connection, but did not answer the probe: %w", err)
		return probeOutcome{err: err, cause: pgfx.CauseOf(err), newConn: true, latency: time.Since(began)}
	}
	p.kept = next
	return probeOutcome{server: server, latency: latency, newConn: true}
}

// lost returns a channel that is closed when the kept connection is gone, nil if none is kept.
func (p *prober) lost() <-chan struct{} {
	if p.kept == nil {
		return nil
	}
	return p.kept.lost
}

// closeKept closes the kept connection.
func (p *prober) closeKept() {
	if p.kept != nil {
		p.kept.close()
		p.kept = nil
	}
}

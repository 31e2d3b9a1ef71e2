package health

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// probe looks at a database from outside the pool. It only looks: what it sees is judged and acted on by others. Its methods
// are not safe for concurrent use.
type prober struct {
	db          *pgfx.DB
	timeout     time.Duration // of one look
	keptTimeout time.Duration // for the kept connection, before a new one is tried
	maxAge      time.Duration // of the kept connection; 0 for no limit
	through     bool          // the pool, and keep nothing
	kept        *session
}

// sight is what one look saw: the server, or why there is none.
type probeOutcome struct {
	server      Server
	err         error
	cause       pgfx.Cause
	latency     time.Duration // of the round trip
	newConn     bool          // a connection was opened for it
	suspectPool bool          // a kept connection was lost or is dead, while a new one works
	keptWorks   bool          // the kept connection works, while a new one failed
}

// The kept connection has this share of a look's time, and no more than this, before a new one is tried beside it.
const (
	keptTimeoutShare = 4
	maxKeptTimeout   = 300 * time.Millisecond
)

func newProber(db *pgfx.DB) *prober {
	config := db.Config()
	return &prober{
		db: db, timeout: config.Health.Timeout, maxAge: max(0, config.Pool.MaxConnLifetime),
		keptTimeout: min(config.Health.Timeout/keptTimeoutShare, maxKeptTimeout), through: config.Health.ThroughPool,
	}
}

// look asks the database how it is, within the timeout. A connection that is kept from the look before is asked first. When
// it is lost or keeps silent, a new one decides, and then the kept one's silence says that the pool's connections may be
// dead too. With afresh a new one is opened in any case, and decides. When ctx itself ends, the sight is worthless.
func (p *prober) probe(ctx context.Context, afresh bool) probeOutcome {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	if p.through {
		return p.lookThroughPool(ctx)
	}
	old := p.kept
	p.kept = nil
	if old == nil {
		return p.probeNewConn(ctx)
	}
	afresh = afresh || p.maxAge > 0 && time.Since(old.opened) > p.maxAge

	patient, cancelPatient := context.WithTimeout(ctx, p.keptTimeout)
	server, latency, err := old.probe(patient)
	cancelPatient()
	if err == nil && !afresh {
		p.kept = old
		return probeOutcome{server: server, latency: latency}
	}
	s := p.probeNewConn(ctx)
	late, answered := old.lateResponse()
	switch {
	case s.err != nil && err == nil:
		p.kept = old
		s.keptWorks = true
		return s
	case s.err != nil && answered: // slow, but alive
		p.kept = old
		return probeOutcome{server: late, latency: s.latency}
	}
	s.suspectPool = s.err == nil && err != nil && old.isDead()
	old.close()
	return s
}

// lookAfresh opens a connection, asks on it and keeps it when it answers: a server that accepts and then kills is no server.
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
		err = fmt.Errorf("health: the server accepted a connection and then gave no answer: %w", err)
		return probeOutcome{err: err, cause: pgfx.CauseOf(err), newConn: true, latency: time.Since(began)}
	}
	p.kept = next
	return probeOutcome{server: server, latency: latency, newConn: true}
}

// lookThroughPool asks on a connection of the pool. When there is none, or it fails, a connection that is opened for the
// moment decides.
func (p *prober) lookThroughPool(ctx context.Context) probeOutcome {
	if p.db.Internals().Gate().Err() != nil {
		defer p.closeKept()
		return p.probeNewConn(ctx)
	}
	patient, cancel := context.WithTimeout(ctx, p.timeout/2)
	defer cancel()
	server, latency, err := p.askPool(patient)
	if err == nil {
		return probeOutcome{server: server, latency: latency}
	}
	defer p.closeKept()
	s := p.probeNewConn(ctx)
	s.suspectPool = s.err == nil && !errors.Is(err, pgfx.ErrAcquireTimeout)
	return s
}

func (p *prober) askPool(ctx context.Context) (server Server, latency time.Duration, err error) {
	conn, err := p.db.Pool().Acquire(ctx)
	if err != nil {
		return Server{}, 0, fmt.Errorf("health: a connection of the pool: %w", err)
	}
	defer conn.Release()
	pg := conn.Conn().PgConn()
	defer context.AfterFunc(ctx, func() { closeSocket(pg.Conn()) })() // pgx would go on asking for a cancellation first
	for _, question := range probeQueries {
		began := time.Now()
		results, err := pg.Exec(context.Background(), question).ReadAll()
		switch {
		case err != nil && canSimplify(err):
		case err != nil:
			return Server{}, 0, fmt.Errorf("health: on a connection of the pool: %w", err)
		case len(results) != 1 || len(results[0].Rows) != 1:
			return Server{}, 0, errors.New("health: the server gave no answer")
		default:
			server, err := parseServer(textValues(results[0].Rows[0]))
			return server, time.Since(began), err
		}
	}
	return Server{}, 0, errors.New("health: the server answers none of the questions")
}

// lost is closed when the kept connection is gone; nil when none is kept.
func (p *prober) lost() <-chan struct{} {
	if p.kept == nil {
		return nil
	}
	return p.kept.lost
}

// drop closes the kept connection.
func (p *prober) closeKept() {
	if p.kept != nil {
		p.kept.close()
		p.kept = nil
	}
}

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
type probe struct {
	db       *pgfx.DB
	timeout  time.Duration // of one look
	patience time.Duration // for the kept connection, before a new one is tried
	maxAge   time.Duration // of the kept connection; 0 for no limit
	through  bool          // the pool, and keep nothing
	kept     *session
}

// sight is what one look saw: the server, or why there is none.
type sight struct {
	server      Server
	err         error
	cause       pgfx.Cause
	latency     time.Duration // of the round trip
	fresh       bool          // a connection was opened for it
	suspectPool bool          // a kept connection was lost or is dead, while a new one works
	established bool          // the kept connection works, while a new one failed
}

// The kept connection has this share of a look's time, and no more than this, before a new one is tried beside it.
const (
	patienceShare = 4
	mostPatience  = 300 * time.Millisecond
)

func newProbe(db *pgfx.DB) *probe {
	config := db.Config()
	return &probe{
		db: db, timeout: config.Health.Timeout, maxAge: max(0, config.Pool.MaxConnLifetime),
		patience: min(config.Health.Timeout/patienceShare, mostPatience), through: config.Health.ThroughPool,
	}
}

// look asks the database how it is, within the timeout. A connection that is kept from the look before is asked first. When
// it is lost or keeps silent, a new one decides, and then the kept one's silence says that the pool's connections may be
// dead too. With afresh a new one is opened in any case, and decides. When ctx itself ends, the sight is worthless.
func (p *probe) look(ctx context.Context, afresh bool) sight {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	if p.through {
		return p.lookThroughPool(ctx)
	}
	old := p.kept
	p.kept = nil
	if old == nil {
		return p.lookAfresh(ctx)
	}
	afresh = afresh || p.maxAge > 0 && time.Since(old.opened) > p.maxAge

	patient, cancelPatient := context.WithTimeout(ctx, p.patience)
	server, latency, err := old.look(patient)
	cancelPatient()
	if err == nil && !afresh {
		p.kept = old
		return sight{server: server, latency: latency}
	}
	s := p.lookAfresh(ctx)
	late, answered := old.late()
	switch {
	case s.err != nil && err == nil:
		p.kept = old
		s.established = true
		return s
	case s.err != nil && answered: // slow, but alive
		p.kept = old
		return sight{server: late, latency: s.latency}
	}
	s.suspectPool = s.err == nil && err != nil && old.isDead()
	old.close()
	return s
}

// lookAfresh opens a connection, asks on it and keeps it when it answers: a server that accepts and then kills is no server.
func (p *probe) lookAfresh(ctx context.Context) sight {
	began := time.Now()
	conn, err := p.db.Connect(ctx, "health")
	if err != nil {
		return sight{err: err, cause: pgfx.CauseOf(err), fresh: true, latency: time.Since(began)}
	}
	next, err := newSession(conn)
	if err != nil {
		return sight{err: err, cause: pgfx.CauseUnknown, fresh: true, latency: time.Since(began)}
	}
	server, latency, err := next.look(ctx)
	if err != nil {
		next.close()
		err = fmt.Errorf("health: the server accepted a connection and then gave no answer: %w", err)
		return sight{err: err, cause: pgfx.CauseOf(err), fresh: true, latency: time.Since(began)}
	}
	p.kept = next
	return sight{server: server, latency: latency, fresh: true}
}

// lookThroughPool asks on a connection of the pool. When there is none, or it fails, a connection that is opened for the
// moment decides.
func (p *probe) lookThroughPool(ctx context.Context) sight {
	if p.db.Internals().Gate().Err() != nil {
		defer p.drop()
		return p.lookAfresh(ctx)
	}
	patient, cancel := context.WithTimeout(ctx, p.timeout/2)
	defer cancel()
	server, latency, err := p.askPool(patient)
	if err == nil {
		return sight{server: server, latency: latency}
	}
	defer p.drop()
	s := p.lookAfresh(ctx)
	s.suspectPool = s.err == nil && !errors.Is(err, pgfx.ErrAcquireTimeout)
	return s
}

func (p *probe) askPool(ctx context.Context) (server Server, latency time.Duration, err error) {
	conn, err := p.db.Pool().Acquire(ctx)
	if err != nil {
		return Server{}, 0, fmt.Errorf("health: a connection of the pool: %w", err)
	}
	defer conn.Release()
	pg := conn.Conn().PgConn()
	defer context.AfterFunc(ctx, func() { cut(pg.Conn()) })() // pgx would go on asking for a cancellation first
	for _, question := range questions {
		began := time.Now()
		results, err := pg.Exec(context.Background(), question).ReadAll()
		switch {
		case err != nil && canAskLess(err):
		case err != nil:
			return Server{}, 0, fmt.Errorf("health: on a connection of the pool: %w", err)
		case len(results) != 1 || len(results[0].Rows) != 1:
			return Server{}, 0, errors.New("health: the server gave no answer")
		default:
			server, err := parseServer(texts(results[0].Rows[0]))
			return server, time.Since(began), err
		}
	}
	return Server{}, 0, errors.New("health: the server answers none of the questions")
}

// lost is closed when the kept connection is gone; nil when none is kept.
func (p *probe) lost() <-chan struct{} {
	if p.kept == nil {
		return nil
	}
	return p.kept.lost
}

// drop closes the kept connection.
func (p *probe) drop() {
	if p.kept != nil {
		p.kept.close()
		p.kept = nil
	}
}

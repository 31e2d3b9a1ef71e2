package measure

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/benchmarks/contest"
	"github.com/rdsfx-go/rdsfx/benchmarks/replay"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

// Mode says who answers the clients.
type Mode string

const (
	// Live is the real server.
	Live Mode = "live"
	// Replay is its recorded answers, so that what is measured is the client by itself.
	Replay Mode = "replay"
)

// Arena is a server with the table that the contenders work on.
type Arena struct {
	server *embedded.Server
	url    string
	conn   *pgx.Conn // for what isn't measured
}

// NewArena starts a server of its own. autovacuum is off, so that it doesn't run while somebody is measured.
func NewArena(ctx context.Context) (*Arena, error) {
	server, err := embedded.Start(ctx, embedded.Setting("autovacuum", "off"))
	if err != nil {
		return nil, err
	}
	a := &Arena{server: server, url: server.URL()}
	if a.conn, err = pgx.Connect(ctx, a.url); err == nil {
		_, err = a.conn.Exec(ctx, contest.Schema)
	}
	if err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

// URL is the server's address.
func (a *Arena) URL() string { return a.url }

// Version is the server's version.
func (a *Arena) Version() string { return a.conn.PgConn().ParameterStatus("server_version") }

// Close stops the server.
func (a *Arena) Close() {
	ctx := context.Background()
	if a.conn != nil {
		_ = a.conn.Close(ctx)
	}
	_ = a.server.Stop(ctx) // it is thrown away
}

// Seat is a contender that is ready for an operation.
type Seat struct {
	Name    string
	Session *contest.Session

	mode   Mode
	setup  func(ctx context.Context) error
	client *contest.Client
	tape   *replay.Tape
}

// Seat opens a contender for an operation. For a replay it records two calls first; the answers that they got are those of
// all replayed calls.
func (a *Arena) Seat(ctx context.Context, op *contest.Operation, contender contest.Contender, mode Mode) (*Seat, error) {
	seat := &Seat{Name: contender.Name, mode: mode, setup: a.setup(op)}
	env := contest.Env{URL: a.url}
	if mode == Replay {
		seat.tape = replay.New(nil)
		seat.tape.Excuse("pg_xact_status") // txn asks its witness every ten seconds whether it is still there
		env.Dial = seat.tape.Dial
		if err := a.record(ctx, op, contender, env); err != nil {
			return nil, fmt.Errorf("%s: %s: recording: %w", op.Slug, contender.Name, err)
		}
		seat.tape.Play()
	}
	client, err := contender.Open(ctx, env)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", op.Slug, contender.Name, err)
	}
	seat.client, seat.Session = client, op.Session(client)
	if seat.Session == nil {
		client.Close()
		return nil, fmt.Errorf("%s: %s can't do it", op.Slug, contender.Name)
	}
	return seat, nil
}

// setup returns what restores the table for an operation.
func (a *Arena) setup(op *contest.Operation) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		if op.Setup == nil {
			return nil
		}
		return op.Setup(ctx, a.conn)
	}
}

func (a *Arena) record(ctx context.Context, op *contest.Operation, contender contest.Contender, env contest.Env) error {
	if err := recordProofs(ctx, env); err != nil {
		return err
	}
	client, err := contender.Open(ctx, env)
	if err != nil {
		return err
	}
	defer client.Close()
	session := op.Session(client)
	if session == nil {
		return errors.New("the contender can't do it")
	}
	for range 2 { // the first prepares its statements, the second has them
		if err := a.setup(op)(ctx); err != nil {
			return err
		}
		session.Prepare()
		if err := session.Call(ctx, 0); err != nil {
			return err
		}
	}
	return nil
}

// recordProofs records how pgxpool, database/sql and pgfx ask a connection that was idle for a second whether it lives.
func recordProofs(ctx context.Context, env contest.Env) error {
	cfg, err := pgx.ParseConfig(env.URL)
	if err != nil {
		return err
	}
	cfg.DialFunc = env.Dial
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	if err := conn.Ping(ctx); err != nil {
		return err
	}
	return conn.PgConn().Exec(ctx, "show transaction_read_only").Close()
}

// Restore brings the table into the state that a call expects. A replay needs no table.
func (s *Seat) Restore(ctx context.Context) error {
	if s.mode == Replay {
		return nil
	}
	return s.setup(ctx)
}

// Err returns what a replay couldn't answer, nil when all was well.
func (s *Seat) Err() error {
	if s.tape == nil {
		return nil
	}
	return s.tape.Err()
}

// Close closes the contender's pool.
func (s *Seat) Close() { s.client.Close() }

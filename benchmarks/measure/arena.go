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

// Mode is the source of the replies to the clients.
type Mode string

const (
	// Live uses a real server.
	Live Mode = "live"
	// Replay uses recorded replies, to measure the client alone.
	Replay Mode = "replay"
)

// Arena is a server with the table that the contenders use.
type Arena struct {
	server *embedded.Server
	url    string
	conn   *pgx.Conn // for unmeasured work
}

// NewArena starts a new server. autovacuum is off, so that it does not run during a measurement.
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

// URL returns the server's address.
func (a *Arena) URL() string { return a.url }

// Version returns the server's version.
func (a *Arena) Version() string { return a.conn.PgConn().ParameterStatus("server_version") }

// Close stops the server.
func (a *Arena) Close() {
	ctx := context.Background()
	if a.conn != nil {
		_ = a.conn.Close(ctx)
	}
	_ = a.server.Stop(ctx) // a temporary server
}

// Seat is a contender prepared for one operation.
type Seat struct {
	Name    string
	Session *contest.Session

	mode   Mode
	setup  func(ctx context.Context) error
	client *contest.Client
	tape   *replay.Tape
}

// Seat opens a contender for an operation. For a replay it first records two calls, whose replies serve all replayed calls.
func (a *Arena) Seat(ctx context.Context, op *contest.Operation, contender contest.Contender, mode Mode) (*Seat, error) {
	seat := &Seat{Name: contender.Name, mode: mode, setup: a.setup(op)}
	env := contest.Env{URL: a.url}
	if mode == Replay {
		seat.tape = replay.New(nil)
		seat.tape.Excuse("pg_xact_status") // txn checks its witness every ten seconds
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
		return nil, fmt.Errorf("%s: %s does not support it", op.Slug, contender.Name)
	}
	return seat, nil
}

// setup returns the function that restores the table for an operation.
func (a *Arena) setup(op *contest.Operation) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		if op.Setup == nil {
			return nil
		}
		return op.Setup(ctx, a.conn)
	}
}

func (a *Arena) record(ctx context.Context, op *contest.Operation, contender contest.Contender, env contest.Env) error {
	if err := recordValidation(ctx, env); err != nil {
		return err
	}
	client, err := contender.Open(ctx, env)
	if err != nil {
		return err
	}
	defer client.Close()
	session := op.Session(client)
	if session == nil {
		return errors.New("the contender does not support the operation")
	}
	for range 2 { // the first call prepares statements, the second uses them
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

// recordValidation records the queries by which pgxpool, database/sql and pgfx validate a connection that was idle for a second.
func recordValidation(ctx context.Context, env contest.Env) error {
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

// Restore restores the table for a call. A replay needs no table.
func (s *Seat) Restore(ctx context.Context) error {
	if s.mode == Replay {
		return nil
	}
	return s.setup(ctx)
}

// Err returns the first error of the replay, or nil.
func (s *Seat) Err() error {
	if s.tape == nil {
		return nil
	}
	return s.tape.Err()
}

// Close closes the contender's pool.
func (s *Seat) Close() { s.client.Close() }

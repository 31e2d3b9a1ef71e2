package measure

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/benchmarks/contest"
	"github.com/rdsfx-go/rdsfx/benchmarks/replay"
)

var errUnsupported = errors.New("the contender does not support the operation")

// Runner is an open contender that runs one operation.
type Runner struct {
	Name    string
	Session *contest.Session

	mode   Mode
	setup  func(ctx context.Context) error
	client *contest.Client
	tape   *replay.Tape
}

// Open opens a contender for an operation. For a replay, it first records two calls. Their responses are used for all replayed
// calls.
func (s *Server) Open(ctx context.Context, op *contest.Operation, contender contest.Contender, mode Mode) (*Runner, error) {
	r := &Runner{Name: contender.Name, mode: mode, setup: s.setup(op)}
	env := contest.Env{URL: s.url}
	if mode == Replay {
		r.tape = replay.New(nil)
		r.tape.IgnoreUnrecorded("pg_xact_status") // sent by txn every ten seconds, in the background
		env.Dial = r.tape.Dial
		if err := s.record(ctx, op, contender, env); err != nil {
			return nil, fmt.Errorf("%s: %s: recording: %w", op.Slug, contender.Name, err)
		}
		r.tape.Play()
	}
	client, err := contender.Open(ctx, env)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", op.Slug, contender.Name, err)
	}
	r.client, r.Session = client, op.Session(client)
	if r.Session == nil {
		client.Close()
		return nil, fmt.Errorf("%s: %s: %w", op.Slug, contender.Name, errUnsupported)
	}
	return r, nil
}

func (s *Server) record(ctx context.Context, op *contest.Operation, contender contest.Contender, env contest.Env) error {
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
		return errUnsupported
	}
	for range 2 { // the first call prepares the statements, the second one uses them
		if err := s.setup(op)(ctx); err != nil {
			return err
		}
		session.Prepare()
		if err := session.Call(ctx, 0); err != nil {
			return err
		}
	}
	return nil
}

// recordValidation records the statements with which pgxpool, database/sql and pgfx validate a connection that was idle for a
// second.
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

// Restore brings the table into the state that a call requires. In a replay it does nothing.
func (r *Runner) Restore(ctx context.Context) error {
	if r.mode == Replay {
		return nil
	}
	return r.setup(ctx)
}

// Err returns the first error of a replay, or nil.
func (r *Runner) Err() error {
	if r.tape == nil {
		return nil
	}
	return r.tape.Err()
}

// Close closes the contender's pool.
func (r *Runner) Close() { r.client.Close() }

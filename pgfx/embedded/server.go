package embedded

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/internal/redact"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

const (
	// startLimit bounds a start whose ctx has no deadline, stopLimit a stop.
	startLimit = time.Minute
	stopLimit  = time.Minute
	// persistentFast is how long a persistent server may take to write everything down when a stop has no deadline.
	persistentFast = 45 * time.Second
)

// Server is a PostgreSQL server: one of our own, or, when RDSFX_POSTGRES_URL names it, somebody else's, which is used and never
// started or stopped. Its methods may be used by several goroutines at once.
type Server struct {
	spec     spec
	external string
	aside    bool
	unused   []string
	log      *zap.Logger
	launch   func(spec, *zap.Logger) (*keeperProcess, error)

	// turn serialises Start and Stop; it is a channel so that waiting for it is bounded by a ctx.
	turn chan struct{}

	mu     sync.Mutex
	keeper *keeperProcess
	// shared is the lease on a server that others use too, whose postmaster is sharedPID.
	shared    *lease
	sharedPID int
	question  string
}

// Start finds a server, starts it and returns when it accepts connections. The caller must [Server.Stop] it; when the process
// ends without, the server ends too.
//
// Start gives up a little before ctx's deadline, or after a minute when ctx has none, and leaves nothing behind then. ctx may end
// afterwards.
func Start(ctx context.Context, opts ...Option) (*Server, error) {
	o, err := collect(opts)
	if err != nil {
		return nil, err
	}
	server, err := newServer(ctx, o, os.Getenv)
	if err != nil {
		return nil, err
	}
	if err := server.Start(ctx); err != nil {
		return nil, err
	}
	return server, nil
}

// newServer decides everything about a server and makes nothing: no directory, no process.
func newServer(ctx context.Context, o options, env lookup) (*Server, error) {
	found, err := resolve(tiers(env, places(env)))
	if err != nil {
		return nil, err
	}
	server := &Server{log: o.logger, launch: spawn, turn: make(chan struct{}, 1)}
	if found.url != "" {
		server.external, server.unused = found.url, o.shapes()
		return server, nil
	}
	runAs, err := serverUser(os.Geteuid(), env(EnvUser))
	if err != nil {
		return nil, err
	}
	s := spec{
		Install: found.install, User: runAs, Settings: o.settings, Port: socketPort, TCP: o.tcp,
		Caches: cacheDirs(), Persistent: o.persistent != "", Data: o.persistent, Orphaned: o.orphaned,
	}
	if s.TCP {
		s.Password = rand.Text()
		if s.Port, err = freePort(ctx); err != nil {
			return nil, err
		}
	}
	room := newRoom(o.tempDir, runAs)
	base, err := room.pick(s.Port)
	if err != nil {
		return nil, err
	}
	s.Dir, s.Sweep = filepath.Join(base, newName(os.Geteuid())), room.candidates
	if !s.Persistent {
		s.Data = scratchData(s.Dir)
	}
	server.spec = s
	return server, nil
}

// Start starts the server and returns when it accepts connections; it does nothing when the server runs. It is what [New] leaves
// to do, and may be called again after [Server.Stop] or when the server has died. See the function [Start] for ctx.
func (s *Server) Start(ctx context.Context) error {
	if s.aside {
		return nil
	}
	work, grace, cancel := startContext(ctx)
	defer cancel()
	if s.external != "" {
		return s.reach(work)
	}
	if s.spec.Meeting != nil {
		return s.leased()
	}
	if err := s.take(ctx); err != nil {
		return fmt.Errorf("embedded: start: %w", err)
	}
	defer s.give()
	if keeper := s.current(); keeper != nil && !keeper.ended() {
		if !hasEnded(keeper.serverPID) {
			return nil
		}
		select { // it is clearing away after a server that has died
		case <-keeper.done:
		case <-work.Done():
			return fmt.Errorf("embedded: start: the server has died and its keeper hasn't cleared away yet: %w", context.Cause(work))
		}
	}
	began := time.Now()
	keeper, err := s.launch(s.spec, s.log)
	if err != nil {
		return fmt.Errorf("embedded: %w", err)
	}
	if err := keeper.await(work, grace); err != nil {
		return fmt.Errorf("embedded: start: %w", err)
	}
	s.mu.Lock()
	s.keeper = keeper
	s.mu.Unlock()
	s.log.Info("postgres started", zap.String("version", s.spec.Install.Version), zap.String("bin_dir", s.spec.Install.BinDir),
		zap.String("data_dir", s.spec.Data), zap.Int("pid", keeper.serverPID), zap.Duration("took", time.Since(began)))
	return nil
}

// startContext ends a tenth of the time, at least half a second, before ctx does, so that there is time left to clean up: Fx runs
// no stop hook once its deadline has passed.
func startContext(ctx context.Context) (work context.Context, grace time.Duration, cancel context.CancelFunc) {
	deadline, has := ctx.Deadline()
	if !has {
		work, cancel = context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("no server after %s: %w", startLimit, context.DeadlineExceeded))
		return work, goneLimit, cancel
	}
	left := max(time.Until(deadline), 0)
	grace = min(max(left/10, 500*time.Millisecond), left/2)
	work, cancel = context.WithDeadline(ctx, deadline.Add(-grace))
	return work, grace, cancel
}

// reach waits until somebody else's server answers.
func (s *Server) reach(ctx context.Context) error {
	if len(s.unused) > 0 {
		s.log.Info("options don't apply to a server given by environment", zap.String("variable", EnvURL), zap.Strings("options", s.unused))
	}
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		conn, err := pgconn.Connect(ctx, s.external)
		if err == nil {
			_ = conn.Close(ctx)
			return nil
		}
		var refused *pgconn.PgError
		if errors.As(err, &refused) && refused.Code != "57P03" || ctx.Err() != nil {
			return unreachable(err)
		}
		select {
		case <-ctx.Done():
			return unreachable(err)
		case <-ticker.C:
		}
	}
}

func unreachable(err error) error {
	return fmt.Errorf("embedded: the server that %s names doesn't answer: %w; start it, correct the URL, or unset the variable to use a local server",
		EnvURL, redactedError{err})
}

// Stop ends the server and removes its directory; it does nothing when the server doesn't run or isn't ours. Of a shared server it
// only gives up this process's share.
//
// It first asks for a fast shutdown, then for an immediate one, and kills the server at last, each in its part of the time until
// ctx's deadline (a minute when ctx has none); having to do more than ask is an error, after which the server is gone nevertheless.
// When ctx ends before the server has, Stop returns and the server's keeper goes on by itself.
func (s *Server) Stop(ctx context.Context) error {
	if err := s.take(ctx); err != nil {
		// Somebody else is starting or stopping it; a keeper that is known can be told all the same.
		if keeper := s.current(); keeper != nil {
			keeper.release()
		}
		return fmt.Errorf("embedded: stop: %w", err)
	}
	defer s.give()
	s.release()
	keeper := s.current()
	if keeper == nil {
		return nil
	}
	if keeper.ended() {
		s.forget()
		return nil
	}
	plan := s.plan(ctx)
	keeper.stop(plan)
	select {
	case <-keeper.done:
	case <-ctx.Done():
		keeper.release()
		return fmt.Errorf("embedded: stop: the server hasn't ended yet, its keeper goes on: %w", context.Cause(ctx))
	}
	s.forget()
	switch last := keeper.last; {
	case last.Kind == eventFailed:
		return fmt.Errorf("embedded: stop: %s", last.Error)
	case last.How == immediate:
		return fmt.Errorf("embedded: stop: the server didn't end within %s and was shut down without writing its data", plan.Fast)
	case last.How == killed:
		return fmt.Errorf("embedded: stop: the server didn't end within %s and was killed", plan.Fast+plan.Immediate)
	}
	return nil
}

// plan divides the time until ctx's deadline: half for the fast shutdown, a quarter for the immediate one, the rest for killing
// and cleaning up.
func (s *Server) plan(ctx context.Context) stopPlan {
	left := stopLimit
	if deadline, has := ctx.Deadline(); has {
		left = max(time.Until(deadline), time.Millisecond)
	}
	return stopPlan{Fast: min(left/2, persistentFast), Immediate: min(left/4, 10*time.Second)}
}

func (s *Server) take(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		return nil
	default:
	}
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *Server) give() { <-s.turn }

func (s *Server) current() *keeperProcess {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keeper
}

func (s *Server) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keeper = nil
}

// URL returns the server's address, password included. It is known before the server is started. It is empty when there is no
// server, because DATABASE_URL made [Module] step aside.
func (s *Server) URL() string {
	switch {
	case s.aside:
		return ""
	case s.external != "":
		return s.external
	default:
		return s.spec.url()
	}
}

// Endpoint returns the URL in the form that rdsfx.Module takes.
func (s *Server) Endpoint() pgfx.Endpoint { return pgfx.Endpoint{URL: s.URL()} }

// External reports whether the server isn't ours to start and stop.
func (s *Server) External() bool { return s.aside || s.external != "" }

// DataDir returns the server's data directory, empty for an external server.
func (s *Server) DataDir() string { return s.spec.Data }

// LogFile returns the file that the server's log is written to, empty for an external server. It goes when the server stops; at
// 8 MB it is put aside as LogFile + ".1".
func (s *Server) LogFile() string {
	if s.External() {
		return ""
	}
	return logFile(s.spec.Dir)
}

// PID returns the process id of the postmaster, 0 when no server of ours runs.
func (s *Server) PID() int {
	s.mu.Lock()
	keeper, shared, pid := s.keeper, s.shared, s.sharedPID
	s.mu.Unlock()
	if shared != nil && s.leased() == nil {
		return pid
	}
	if keeper == nil || keeper.ended() {
		return 0
	}
	return keeper.serverPID
}

// String returns the URL with its password masked.
func (s *Server) String() string { return redact.ConnString(s.URL()) }

// Format prints the masked URL for every verb.
func (s *Server) Format(state fmt.State, _ rune) { _, _ = fmt.Fprint(state, s.String()) }

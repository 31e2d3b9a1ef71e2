package embedded

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/internal/redact"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/access"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/download"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/keeper"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/postgres"
)

const (
	// startTimeout limits a start whose ctx has no deadline, downloadTimeout a download before it, stopTimeout a stop.
	startTimeout    = time.Minute
	downloadTimeout = 10 * time.Minute
	stopTimeout     = time.Minute
	// fastShutdownLimit limits the fast shutdown, in which a persistent server writes a checkpoint.
	fastShutdownLimit = 45 * time.Second
)

// Server is a local PostgreSQL server, or an external one that RDSFX_POSTGRES_URL names and that is neither started nor
// stopped. Its methods may be called concurrently.
type Server struct {
	// spec and external are pointers, so that fmt prints their addresses if a Server is printed by value.
	spec *keeper.Spec
	// external is the URL of an external server. If it is set, spec is nil.
	external *string
	// source is what Start downloads if spec has no installation.
	source *download.Source
	// disabled is set if DATABASE_URL replaces the server.
	disabled bool
	// unused names the options that an external server ignores.
	unused []string
	log    *zap.Logger
	spawn  func(keeper.Spec, *zap.Logger) (*keeper.Process, error)

	// lock serializes Start and Stop. It is a channel, so that a ctx can limit waiting for it.
	lock chan struct{}

	mu     sync.Mutex
	keeper *keeper.Process
	// lease is set while this process uses a shared server.
	lease    *keeper.Lease
	shareKey string
}

// Start starts a server and returns when it accepts connections. Call [Server.Stop] to stop it. If the process ends without
// stopping it, the server ends too.
//
// Start fails a little before ctx's deadline, or after a minute if ctx has none, so that it can clean up. The server outlives
// ctx.
func Start(ctx context.Context, opts ...Option) (*Server, error) {
	server, err := NewServer(opts...)
	if err != nil {
		return nil, err
	}
	if err := server.Start(ctx); err != nil {
		return nil, err
	}
	return server, nil
}

// NewServer selects a server without starting it. It creates no process, directory or socket, but the server's URL is known.
// Call [Server.Start] and [Server.Stop]. NewServer returns an error if options are invalid or, matching [ErrNotFound], if there
// is no PostgreSQL and Start can't download it.
func NewServer(opts ...Option) (*Server, error) {
	o, err := applyOptions(opts, nil)
	if err != nil {
		return nil, err
	}
	return newServer(o, os.Getenv)
}

func newServer(o options, env postgres.Getenv) (*Server, error) {
	server := &Server{log: o.logger, spawn: keeper.Spawn, lock: make(chan struct{}, 1)}
	source, reason, err := o.downloadSource(env)
	if err != nil {
		return nil, fmt.Errorf("embedded: %w", err)
	}
	downloads := postgres.Downloads{Reason: reason}
	if source != nil {
		downloads.BinDirs = source.BinDirs()
	}
	found, err := o.find(env, downloads)
	switch {
	case errors.Is(err, ErrNotFound) && source != nil:
		server.source = source
	case err != nil:
		return nil, fmt.Errorf("embedded: %w", err)
	}
	if found.URL != "" {
		server.external, server.unused = &found.URL, o.serverOptions()
		return server, nil
	}
	server.spec, err = newSpec(o, found.Installation, env(EnvUser))
	if err != nil {
		return nil, fmt.Errorf("embedded: %w", err)
	}
	return server, nil
}

func newSpec(o options, installation postgres.Installation, userName string) (*keeper.Spec, error) {
	user, err := access.ServerUser(os.Geteuid(), userName)
	if err != nil {
		return nil, err
	}
	s := &keeper.Spec{
		Installation: installation, User: user, Settings: o.settings, Port: keeper.SocketPort, TCP: o.tcp, CacheDirs: postgres.CacheDirs(),
		Persistent: o.persistent != "", DataDir: o.persistent, RemoveWhenOrphaned: o.removeWhenOrphaned,
	}
	if s.TCP {
		s.Password = keeper.Password(rand.Text())
		if s.Port, err = keeper.FreePort(); err != nil {
			return nil, err
		}
	}
	locations := keeper.NewLocations(o.tempDir, user)
	s.SweepDirs = locations.Dirs()
	if s.Dir, err = locations.NewServerDir(s.Port); err != nil {
		return nil, err
	}
	if !s.Persistent {
		s.DataDir = keeper.TemporaryDataDir(s.Dir)
	}
	return s, nil
}

// URL returns the connection URL, including the password. It is known before the server starts and doesn't change when the
// server is restarted. It is empty if DATABASE_URL replaces the server of [Module].
func (s *Server) URL() string {
	switch {
	case s.disabled:
		return ""
	case s.external != nil:
		return *s.external
	default:
		return s.spec.URL()
	}
}

// Endpoint returns the URL in the form that rdsfx.Module uses.
func (s *Server) Endpoint() pgfx.Endpoint { return pgfx.Endpoint{URL: s.URL()} }

// External reports whether the server is one that this package neither starts nor stops.
func (s *Server) External() bool { return s.disabled || s.external != nil }

// DataDir returns the data directory. It is empty for an external server.
func (s *Server) DataDir() string {
	if s.External() {
		return ""
	}
	return s.spec.DataDir
}

// LogFile returns the path of the server's log. At 8 MB the file is renamed to LogFile + ".1". Both are removed when the server
// stops. It is empty for an external server.
func (s *Server) LogFile() string {
	if s.External() {
		return ""
	}
	return keeper.LogFile(s.spec.Dir)
}

// PID returns the process id of the postmaster. It is 0 for an external server and for one that isn't running.
func (s *Server) PID() int {
	s.mu.Lock()
	process, lease := s.keeper, s.lease
	s.mu.Unlock()
	if lease != nil {
		if !lease.Valid() {
			return 0
		}
		return lease.State.PID
	}
	if process == nil || process.Ended() {
		return 0
	}
	return process.ServerPID()
}

// String returns the URL with a masked password.
func (s *Server) String() string { return redact.ConnString(s.URL()) }

// Format prints the URL with a masked password for every verb.
func (s *Server) Format(state fmt.State, _ rune) { _, _ = fmt.Fprint(state, s.String()) }

package embedded

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/keeper"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/postgres"
)

// sharedServers contains the shared servers of this process by share key. A process needs one lease per server.
var sharedServers = struct { //nolint:gochecknoglobals // a lease is a file lock, which belongs to the process as well
	mu      sync.Mutex
	servers map[string]*Server
	// locks serialize the calls for one share key.
	locks map[string]chan struct{}
}{servers: make(map[string]*Server), locks: make(map[string]chan struct{})}

// Shared returns a running server that all processes of this user share if they use the same options. The test binaries of one
// `go test ./...` can do so, for example. The first process starts the server. It stops about a second after the last process
// that uses it has ended, in whatever way.
//
// Within a process, calls with the same options return the same Server. [Server.Stop] is optional: it stops using the server
// before the process ends. If the server was killed, the next call returns another one with a new URL.
//
// Shared fails a little before ctx's deadline, or after a minute if ctx has none. The server outlives ctx. [RemoveWhenOrphaned]
// is an error.
func Shared(ctx context.Context, opts ...Option) (*Server, error) {
	o, err := applyOptions(opts, nil)
	if err != nil {
		return nil, err
	}
	if len(o.removeWhenOrphaned) > 0 {
		return nil, errors.New("embedded: shared: RemoveWhenOrphaned needs a server with one owner: omit the option, or use Start")
	}
	return share(ctx, o, os.Getenv, keeper.Spawn)
}

func share(
	ctx context.Context, o options, env postgres.Getenv, spawn func(keeper.Spec, *zap.Logger) (*keeper.Process, error),
) (*Server, error) {
	key := shareKey(o, env)
	lock := shareLock(key)
	if err := acquireShare(ctx, lock); err != nil {
		return nil, fmt.Errorf("embedded: shared: %w", err)
	}
	defer func() { <-lock }()
	if known := sharedServer(key); known != nil {
		if known.checkLease() == nil {
			return known, nil
		}
		known.releaseLease()
	}
	server, err := newServer(o, env)
	if err != nil {
		return nil, err
	}
	server.shareKey, server.spawn = key, spawn
	if server.external != nil {
		if err := server.Start(ctx); err != nil {
			return nil, err
		}
	} else if err := server.join(ctx, o.tempDir); err != nil {
		return nil, fmt.Errorf("embedded: shared: %w", err)
	}
	sharedServers.mu.Lock()
	defer sharedServers.mu.Unlock()
	sharedServers.servers[key] = server
	return server, nil
}

func acquireShare(ctx context.Context, lock chan<- struct{}) error {
	work, _, cancel := startContext(ctx, startTimeout)
	defer cancel()
	select {
	case lock <- struct{}{}:
		return nil
	case <-work.Done():
		return context.Cause(work)
	}
}

// shareKey returns a hash of everything that can affect the result of [Shared] within a process. It is a hash because
// RDSFX_POSTGRES_URL and RDSFX_POSTGRES_DOWNLOAD may contain a password.
func shareKey(o options, env postgres.Getenv) string {
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(o.settings)) {
		_, _ = fmt.Fprintf(sum, "%s=%q ", name, o.settings[name])
	}
	_, _ = fmt.Fprintf(sum, "%t %q %q %q %q", o.tcp, o.persistent, o.tempDir, o.download, o.downloadVersion)
	for _, name := range []string{EnvURL, EnvBin, EnvUser, EnvDownload, EnvDownloadVersion, "PATH"} {
		_, _ = fmt.Fprintf(sum, " %q", env(name))
	}
	return string(sum.Sum(nil))
}

func shareLock(key string) chan struct{} {
	sharedServers.mu.Lock()
	defer sharedServers.mu.Unlock()
	lock, ok := sharedServers.locks[key]
	if !ok {
		lock = make(chan struct{}, 1)
		sharedServers.locks[key] = lock
	}
	return lock
}

func sharedServer(key string) *Server {
	sharedServers.mu.Lock()
	defer sharedServers.mu.Unlock()
	return sharedServers.servers[key]
}

// join gets a lease on the shared server, which it starts if needed. The installation is part of the server's identity, so a
// download comes first.
func (s *Server) join(ctx context.Context, tempDir string) error {
	if err := s.fetch(ctx); err != nil {
		return err
	}
	ctx, grace, cancel := startContext(ctx, startTimeout)
	defer cancel()
	entry, err := keeper.NewEntry(*s.spec, tempDir)
	if err != nil {
		return err
	}
	s.spec.Shared = &entry
	began := time.Now()
	lease, err := keeper.Join(ctx, entry, grace, func() (*keeper.Process, error) { return s.spawn(*s.spec, s.log) })
	if err != nil {
		return err
	}
	s.spec = &lease.State.Spec
	s.mu.Lock()
	s.lease = lease
	s.mu.Unlock()
	if lease.Started {
		s.log.Info("shared postgres started", s.logFields(lease.State.PID, began)...)
	}
	return nil
}

var errNoLease = errors.New("embedded: this process no longer uses the shared server, or the server has ended: call Shared again")

// checkLease returns errNoLease if the shared server is gone or this process has stopped using it.
func (s *Server) checkLease() error {
	if s.external != nil {
		return nil
	}
	s.mu.Lock()
	lease := s.lease
	s.mu.Unlock()
	if lease == nil || !lease.Valid() {
		return errNoLease
	}
	return nil
}

// releaseLease stops using the shared server.
func (s *Server) releaseLease() {
	s.mu.Lock()
	lease := s.lease
	s.lease = nil
	s.mu.Unlock()
	if lease == nil {
		return
	}
	sharedServers.mu.Lock()
	if sharedServers.servers[s.shareKey] == s {
		delete(sharedServers.servers, s.shareKey)
	}
	sharedServers.mu.Unlock()
	lease.Release()
}

package embedded

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

// lease is this process's share in a server that several use. The kernel ends it with the process.
type lease struct {
	meeting meeting
	file    *os.File
}

// leases holds the shared servers of this process: each is leased once, however often it is asked for.
var leases = struct { //nolint:gochecknoglobals // a lease belongs to the process, as the lock that it is does
	mu      sync.Mutex
	servers map[string]*Server
	// turns serialise the callers that ask for the same server.
	turns map[string]chan struct{}
}{servers: make(map[string]*Server), turns: make(map[string]chan struct{})}

// Shared returns a running server that all processes of this user share that ask with the same options: the test binaries of one
// `go test ./...`, for example. Who comes first starts it. A second or so after the last process that uses it has ended, in
// whatever way, it is gone.
//
// In one process, calls with the same options return the same Server, which needs no [Server.Stop]; Stop gives up the process's share
// before its end. A server that has been killed meanwhile is replaced by the next call, with a new address. For a server given by
// RDSFX_POSTGRES_URL see [Start], as for ctx.
func Shared(ctx context.Context, opts ...Option) (*Server, error) {
	o, err := collect(opts)
	if err != nil {
		return nil, err
	}
	if len(o.orphaned) > 0 {
		return nil, errors.New("embedded: shared: RemoveWhenOrphaned is for a server that one process owns: leave it out, or use Start")
	}
	return share(ctx, o, os.Getenv)
}

func share(ctx context.Context, o options, env lookup) (*Server, error) {
	asked := question(o, env)
	turn := turnOf(asked)
	work, grace, cancel := startContext(ctx)
	defer cancel()
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-work.Done():
		return nil, fmt.Errorf("embedded: shared: %w", context.Cause(work))
	}
	if known := answered(asked); known != nil {
		if known.leased() == nil {
			return known, nil
		}
		known.release()
	}
	server, err := newServer(ctx, o, env)
	if err != nil {
		return nil, err
	}
	server.question = asked
	if server.external != "" {
		if err := server.Start(ctx); err != nil {
			return nil, err
		}
	} else if err := server.meet(work, grace, o); err != nil {
		return nil, err
	}
	leases.mu.Lock()
	defer leases.mu.Unlock()
	leases.servers[asked] = server
	return server, nil
}

// question tells apart calls that may have different answers, without looking at anything but the environment.
func question(o options, env lookup) string {
	var asked strings.Builder
	for _, name := range slices.Sorted(maps.Keys(o.settings)) {
		fmt.Fprintf(&asked, "%s=%q ", name, o.settings[name])
	}
	fmt.Fprintf(&asked, "%t %q %q", o.tcp, o.persistent, o.tempDir)
	for _, name := range []string{EnvURL, EnvBin, EnvUser, "PATH"} {
		fmt.Fprintf(&asked, " %q", env(name))
	}
	return asked.String()
}

func turnOf(asked string) chan struct{} {
	leases.mu.Lock()
	defer leases.mu.Unlock()
	turn, is := leases.turns[asked]
	if !is {
		turn = make(chan struct{}, 1)
		leases.turns[asked] = turn
	}
	return turn
}

func answered(asked string) *Server {
	leases.mu.Lock()
	defer leases.mu.Unlock()
	return leases.servers[asked]
}

var errReleased = errors.New("embedded: this share of the server has been given up, or the server has ended: call Shared again")

// leased reports whether the server is there and this process has its share in it.
func (s *Server) leased() error {
	s.mu.Lock()
	held := s.shared
	s.mu.Unlock()
	if s.external != "" {
		return nil
	}
	if held == nil || !held.meeting.kept() {
		return errReleased
	}
	// The keeper may be another one, whom another process has started after ours was killed.
	if now, err := held.meeting.state(); err != nil || now.Spec.Dir != s.spec.Dir {
		return errReleased
	}
	return nil
}

// meet takes a share in the server of everybody who wants the same.
func (s *Server) meet(ctx context.Context, grace time.Duration, o options) error {
	meeting, err := newMeeting(o, s.spec)
	if err != nil {
		return err
	}
	s.spec.Meeting = &meeting
	for {
		err := s.join(ctx, grace)
		if errors.Is(err, errTaken) {
			continue
		}
		if err != nil {
			return fmt.Errorf("embedded: shared: %w", err)
		}
		return nil
	}
}

// join finds the server of the meeting, or starts it, and takes a lease on it.
func (s *Server) join(ctx context.Context, grace time.Duration) error {
	m := *s.spec.Meeting
	elect, err := m.lock(ctx, electFile, true)
	if err != nil {
		return err
	}
	defer giveUp(elect)
	file, err := m.lock(ctx, leaseFile, false)
	if err != nil {
		return err
	}
	held := &lease{meeting: m, file: file}
	found, err := s.find(ctx)
	if errors.Is(err, errNoKeeper) {
		found, err = s.host(ctx, grace)
	}
	if err != nil {
		giveUp(file)
		if !m.kept() {
			giveUp(elect)
			sweepMeeting(m)
		}
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spec, s.shared, s.sharedPID = found.Spec, held, found.PID
	return nil
}

var errNoKeeper = errors.New("the server has no keeper")

// find waits for the state of a server that another process has started. The caller holds the election and a lease, so that the server
// stays if it is there.
func (s *Server) find(ctx context.Context) (state, error) {
	m := *s.spec.Meeting
	ticker := time.NewTicker(lockPause)
	defer ticker.Stop()
	for {
		if !m.kept() {
			return state{}, errNoKeeper
		}
		// Whoever started it may have been killed before it was ready.
		if found, err := m.state(); err == nil {
			return found, nil
		}
		select {
		case <-ctx.Done():
			return state{}, context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// host starts a keeper for the meeting, which lives on its own as soon as the server is ready.
func (s *Server) host(ctx context.Context, grace time.Duration) (state, error) {
	m := *s.spec.Meeting
	_ = os.Remove(m.path(stateFile))
	began := time.Now()
	keeper, err := s.launch(s.spec, s.log)
	if err != nil {
		return state{}, err
	}
	defer keeper.detach()
	if err := keeper.await(ctx, grace); err != nil {
		return state{}, err
	}
	s.log.Info("shared postgres started", zap.String("version", s.spec.Install.Version), zap.String("bin_dir", s.spec.Install.BinDir),
		zap.String("data_dir", s.spec.Data), zap.Int("pid", keeper.serverPID), zap.Duration("took", time.Since(began)))
	return m.state()
}

// release gives up this process's share.
func (s *Server) release() {
	s.mu.Lock()
	held := s.shared
	s.shared, s.sharedPID = nil, 0
	s.mu.Unlock()
	if held == nil {
		return
	}
	leases.mu.Lock()
	if leases.servers[s.question] == s {
		delete(leases.servers, s.question)
	}
	leases.mu.Unlock()
	giveUp(held.file)
	if !held.meeting.kept() {
		// The keeper was killed and could not clear away.
		sweepMeeting(held.meeting)
	}
}

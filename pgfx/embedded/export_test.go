package embedded

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"go.uber.org/fx"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/keeper"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/postgres"
)

// Dir returns the server directory.
func (s *Server) Dir() string { return s.spec.Dir }

// KeeperPID returns the process id of the server's keeper. It is 0 if this process didn't start it.
func (s *Server) KeeperPID() int {
	if process := s.currentKeeper(); process != nil {
		return process.PID()
	}
	return 0
}

// RegistryDir returns the registry directory of a shared server.
func (s *Server) RegistryDir() string { return s.spec.Shared.Dir }

// AbandonKeeper makes the server's keeper act as if this process had ended.
func (s *Server) AbandonKeeper() { s.currentKeeper().Abandon() }

// KeeperReason waits for the end of the server's keeper and returns its reason.
func (s *Server) KeeperReason() string {
	process := s.currentKeeper()
	<-process.Done()
	return process.Reason()
}

// DisableCache makes the keeper run initdb for each start.
func (s *Server) DisableCache() { s.spec.CacheDirs = nil }

// UseExecutable makes another executable run the keeper.
func (s *Server) UseExecutable(program string) {
	s.spawn = func(spec keeper.Spec, log *zap.Logger) (*keeper.Process, error) {
		return keeper.SpawnExecutable(program, spec, log)
	}
}

// UseGoroutine runs the keeper in this process, so that its code counts as covered. A signal sent to terminate ends the keeper.
func (s *Server) UseGoroutine() (terminate chan<- os.Signal) {
	signals := make(chan os.Signal, 1)
	s.spawn = spawnGoroutine(signals)
	return signals
}

func spawnGoroutine(terminate <-chan os.Signal) func(keeper.Spec, *zap.Logger) (*keeper.Process, error) {
	return func(spec keeper.Spec, log *zap.Logger) (*keeper.Process, error) {
		commandsRead, commandsWrite, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		eventsRead, eventsWrite, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		child := &childGoroutine{}
		child.running.Go(func() {
			keeper.Run(commandsRead, eventsWrite, terminate)
			_ = eventsWrite.Close()
			_ = commandsRead.Close()
		})
		return keeper.Attach(child, commandsWrite, eventsRead, spec, log), nil
	}
}

type childGoroutine struct{ running sync.WaitGroup }

func (c *childGoroutine) Kill()    {}
func (c *childGoroutine) Release() {}

func (c *childGoroutine) Wait() string {
	c.running.Wait()
	return "returned"
}

// SharedInGoroutine is Shared with the keeper in this process.
func SharedInGoroutine(ctx context.Context, opts ...Option) (*Server, error) {
	o, err := applyOptions(opts, nil)
	if err != nil {
		return nil, err
	}
	return share(ctx, o, os.Getenv, spawnGoroutine(nil))
}

// SharedWithEnv is Shared in another environment.
func SharedWithEnv(ctx context.Context, env map[string]string, opts ...Option) (*Server, error) {
	o, err := applyOptions(opts, nil)
	if err != nil {
		return nil, err
	}
	return share(ctx, o, func(name string) string { return env[name] }, keeper.Spawn)
}

// NewServerWithEnv is NewServer in another environment.
func NewServerWithEnv(env map[string]string, opts ...Option) (*Server, error) {
	o, err := applyOptions(opts, nil)
	if err != nil {
		return nil, err
	}
	return newServer(o, func(name string) string { return env[name] })
}

// ProvideWithEnv provides what Module does, in another environment.
func ProvideWithEnv(env map[string]string) fx.Option {
	return fx.Provide(func(p moduleParams) (*Server, pgfx.Endpoint, error) {
		result, err := newWithEnv(p, func(name string) string { return env[name] })
		return result.Server, result.Endpoint, err
	})
}

// StartTimes returns how long a start with ctx may take, and the grace that remains for cleaning up.
func StartTimes(ctx context.Context) (work, grace time.Duration) {
	bounded, grace, cancel := startContext(ctx, startTimeout)
	defer cancel()
	deadline, _ := bounded.Deadline()
	return time.Until(deadline), grace
}

// EntryFile returns the path of a registry file of the shared server with these options, in an existing registry.
func EntryFile(kind string, opts ...Option) (string, error) {
	o, err := applyOptions(opts, nil)
	if err != nil {
		return "", err
	}
	server, err := newServer(o, os.Getenv)
	if err != nil {
		return "", err
	}
	entry, err := keeper.NewEntry(*server.spec, o.tempDir)
	if err != nil {
		return "", err
	}
	return entry.Path(kind), os.MkdirAll(entry.Dir, 0o700)
}

// NothingInstalled hides installed servers, and downloads to dir if it isn't empty.
func NothingInstalled(dir string) Option {
	return func(o *options) error {
		o.find = func(_ postgres.Getenv, downloads postgres.Downloads) (postgres.Found, error) {
			for _, dir := range downloads.BinDirs {
				if installation, err := postgres.Inspect(dir); err == nil {
					return postgres.Found{Installation: installation}, nil
				}
			}
			return postgres.Found{}, fmt.Errorf("%w: %s", postgres.ErrNotFound, downloads.Reason)
		}
		if dir != "" {
			o.downloadDirs = []string{dir}
		}
		return nil
	}
}

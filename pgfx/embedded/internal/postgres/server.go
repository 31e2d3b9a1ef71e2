package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/pprof"
	"syscall"
	"time"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/access"
)

const (
	// pollInterval is the time between two reads of a server's state.
	pollInterval = 2 * time.Millisecond
	// outputDelay is how long Wait waits for the remaining output of a server that has ended.
	outputDelay = time.Second
)

// ShutdownMode is a way to end a server (PostgreSQL manual, "Shutting Down the Server").
type ShutdownMode string

const (
	// Fast ends all sessions and writes a checkpoint: SIGINT.
	Fast ShutdownMode = "fast"
	// Immediate ends all processes without a checkpoint, so the next start runs recovery: SIGQUIT.
	Immediate ShutdownMode = "immediate"
	// Killed is the last resort, for a server that ignores the other modes: SIGKILL.
	Killed ShutdownMode = "killed"
)

// StopPlan is how long each shutdown mode may take before the next one. A mode with zero time is skipped.
type StopPlan struct {
	Fast      time.Duration `json:"fast"`
	Immediate time.Duration `json:"immediate"`
}

// Config describes a server process.
type Config struct {
	Installation Installation
	User         *access.User
	DataDir      string
	// Args are the command-line arguments besides -D.
	Args []string
}

// Server is a running server process, the postmaster.
type Server struct {
	installation Installation
	dataDir      string
	cmd          *exec.Cmd
	log          *Log

	// done is closed after the process has ended and was waited for; err is set before.
	done chan struct{}
	err  error
}

// Start starts a server process that writes its output to log. It returns before the server accepts connections. If this
// process dies, Linux ends the server.
func Start(config Config, log *Log) (*Server, error) {
	args := append([]string{"-D", config.DataDir}, config.Args...)
	binary := config.Installation.Binary("postgres")
	cmd := exec.CommandContext(context.Background(), binary, args...) //nolint:gosec // the binary of the installation
	prepare(cmd, config.User, syscall.SIGQUIT)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.WaitDelay = outputDelay
	s := &Server{installation: config.Installation, dataDir: config.DataDir, cmd: cmd, log: log, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		pprof.SetGoroutineLabels(context.Background()) // those of the caller, such as a test, do not apply
		// As in run: the parent-death signal is tied to this thread.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			s.err = cmd.Wait()
		}
		close(s.done)
	}()
	if err := <-started; err != nil {
		return nil, explainStartError(err, cmd.Path, config.User)
	}
	return s, nil
}

// PID returns the process id of the postmaster.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Done is closed after the process has ended.
func (s *Server) Done() <-chan struct{} { return s.done }

// AwaitReady waits until the server accepts connections, as pg_ctl start -w does: by the status in its pid file. It returns an
// error that quotes the server's log if the server ends or ctx ends first.
func (s *Server) AwaitReady(ctx context.Context) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		if file, err := ReadPIDFile(s.dataDir); err == nil && file.PID == s.PID() && file.Status == "ready" {
			return nil
		}
		select {
		case <-s.done:
			return fmt.Errorf("the server ended during startup: %s%s", s.ExitStatus(), s.log.Tail())
		case <-ctx.Done():
			return fmt.Errorf("the server is not ready: %w%s", context.Cause(ctx), s.log.Tail())
		case <-ticker.C:
		}
	}
}

// ExitStatus describes how the process ended. Call it only after [Server.Done] is closed.
func (s *Server) ExitStatus() string {
	if s.err == nil {
		return "exit status 0"
	}
	return s.err.Error()
}

// Stop ends the server in the gentlest mode that succeeds within its time in plan, and returns that mode.
func (s *Server) Stop(plan StopPlan) ShutdownMode {
	for _, step := range []struct {
		mode    ShutdownMode
		timeout time.Duration
	}{{Fast, plan.Fast}, {Immediate, plan.Immediate}} {
		if step.timeout <= 0 {
			continue
		}
		if err := signalShutdown(s, step.mode); err != nil && !errors.Is(err, os.ErrProcessDone) {
			continue
		}
		timer := time.NewTimer(step.timeout)
		select {
		case <-s.done:
			timer.Stop()
			return step.mode
		case <-timer.C:
		}
	}
	_ = s.cmd.Process.Kill()
	<-s.done
	return Killed
}

// Package testredis runs redis-server for tests and examples, as a single server or as a cluster. Servers end with the process that
// started them, even if it is killed.
package testredis

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"
)

// ErrNotInstalled is returned by [Start] and [StartCluster] on a machine without redis-server.
var ErrNotInstalled = errors.New("redis-server is not installed: apt-get install redis-server")

// Server is a redis-server that flushes each write before it replies, so acknowledged writes survive [Server.Kill].
//
// The methods may be called concurrently.
type Server struct {
	dir              string
	network, address string
	bus              string // port on which the servers of a cluster exchange their state
	binary           string
	args             []string
	janitor          *janitor

	mu      sync.Mutex
	process *process // nil while the server is down
}

// Start runs redis-server on a Unix socket in a directory that only this user can enter, and returns when it accepts commands. args
// are further arguments, such as "--maxmemory", "100mb"; they override those of Start.
func Start(ctx context.Context, args ...string) (*Server, error) {
	return start(ctx, func(dir string) (network, address string, listen []string) {
		socket := filepath.Join(dir, "redis.sock")
		return "unix", socket, []string{"--port", "0", "--unixsocket", socket}
	}, args)
}

func start(ctx context.Context, listenIn func(dir string) (network, address string, args []string), args []string) (_ *Server, err error) {
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, ErrNotInstalled
	}
	dir, err := os.MkdirTemp("", "rdsfx-redis-")
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, binary: binary}
	var listen []string
	s.network, s.address, listen = listenIn(dir)
	s.args = slices.Concat(listen, []string{"--dir", dir, "--save", "", "--appendonly", "yes", "--appendfsync", "always"}, args)
	s.janitor, err = startJanitor(ctx, dir)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := s.Restart(ctx); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// Network returns "unix" or "tcp".
func (s *Server) Network() string { return s.network }

// Address returns the path of the Unix socket, or the host and port of a server of a cluster.
func (s *Server) Address() string { return s.address }

// PID returns the process ID, or 0 while the server is down.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return 0
	}
	return s.process.cmd.Process.Pid
}

// Restart kills the server if it runs, starts it with the same address and data, and returns when it accepts commands.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.killLocked()
	process, err := startProcess(ctx, s.binary, s.args)
	if err != nil {
		return fmt.Errorf("start redis-server: %w", err)
	}
	s.process = process
	s.janitor.watch(process.cmd.Process.Pid)
	if err := s.await(ctx, process); err != nil {
		s.killLocked()
		return err
	}
	return nil
}

// await waits until the server accepts commands. While it loads its data, it replies with an error.
func (s *Server) await(ctx context.Context, process *process) error {
	for {
		reply, err := s.do(ctx, "PING")
		if err == nil && reply == "PONG" {
			return nil
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-process.ended:
			return fmt.Errorf("redis-server ended at its start: %s", lastLines(process.output.Bytes()))
		case <-ctx.Done():
			return fmt.Errorf("redis-server does not accept commands: %w", errors.Join(context.Cause(ctx), err))
		}
	}
}

// lastLines returns the end of a log.
func lastLines(log []byte) []byte {
	const limit = 1000
	return bytes.TrimSpace(log[max(0, len(log)-limit):])
}

// Kill ends the server with SIGKILL, as in a crash. Its data stays. If the server is down, Kill does nothing.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.killLocked()
}

func (s *Server) killLocked() {
	if s.process == nil {
		return
	}
	_ = s.process.cmd.Process.Kill() // fails if the server has ended
	<-s.process.ended
	s.process = nil
	s.janitor.watch(0)
}

// Freeze stops the process with SIGSTOP: the kernel accepts connections, but no command gets a reply. If the server is down, Freeze
// does nothing. [Server.Thaw] resumes it.
func (s *Server) Freeze() error { return s.signal(signalFreeze) }

// Thaw resumes a frozen server.
func (s *Server) Thaw() error { return s.signal(signalThaw) }

func (s *Server) signal(signal os.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return nil
	}
	return s.process.cmd.Process.Signal(signal)
}

// Stop kills the server and removes its data. It may be called again.
func (s *Server) Stop() error {
	s.Kill()
	return s.janitor.stop()
}

// process is a running redis-server.
type process struct {
	cmd    *exec.Cmd
	output *bytes.Buffer // read it when ended is closed
	ended  chan struct{}
}

func startProcess(ctx context.Context, binary string, args []string) (*process, error) {
	p := &process{output: &bytes.Buffer{}, ended: make(chan struct{})}
	p.cmd = exec.CommandContext(context.WithoutCancel(ctx), binary, args...) //nolint:gosec // a test's binary
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	p.cmd.SysProcAttr = detached()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // the error only reports the signal
	}()
	return p, nil
}

// cleanUp kills the process whose ID was the last line of its input, if any, and removes the directory. Its input ends when the process
// that started it stops the server or ends in any way.
const cleanUp = `while read -r line; do pid=$line; done
[ "${pid:-0}" = 0 ] || kill -KILL "$pid"
rm -rf "$1"`

// janitor is a shell that outlives this process for a moment, to run cleanUp.
type janitor struct {
	cmd   *exec.Cmd
	input io.WriteCloser
	stop  func() error
}

func startJanitor(ctx context.Context, dir string) (*janitor, error) {
	j := &janitor{cmd: exec.CommandContext(context.WithoutCancel(ctx), "sh", "-c", cleanUp, "sh", dir)} //nolint:gosec // constant
	j.cmd.SysProcAttr = detached()
	var err error
	if j.input, err = j.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := j.cmd.Start(); err != nil {
		return nil, err
	}
	j.stop = sync.OnceValue(func() error { return errors.Join(j.input.Close(), j.cmd.Wait()) })
	return j, nil
}

// watch makes the janitor kill this process, or none if pid is 0.
func (j *janitor) watch(pid int) { _, _ = io.WriteString(j.input, strconv.Itoa(pid)+"\n") }

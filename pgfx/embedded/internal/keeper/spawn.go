package keeper

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/pprof"
	"strings"

	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/postgres"
)

const executableHint = "the program must be an ordinary Go executable whose package initialization reaches pgfx/embedded"

// Spawn starts this executable a second time as the keeper of the server that s describes. It doesn't wait for the server.
func Spawn(s Spec, log *zap.Logger) (*Process, error) {
	if os.Getenv(envKeeper) != "" {
		return nil, fmt.Errorf("this process was started as a keeper but didn't become one; unset %s if you have set it: %s", envKeeper, executableHint)
	}
	program, err := ownExecutable()
	if err != nil {
		return nil, fmt.Errorf("start the keeper: find this program's executable: %w", err)
	}
	return SpawnExecutable(program, s, log)
}

// SpawnExecutable is like [Spawn] but starts another executable.
func SpawnExecutable(program string, s Spec, log *zap.Logger) (*Process, error) {
	commandsRead, commandsWrite, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start the keeper: %w", err)
	}
	eventsRead, eventsWrite, err := os.Pipe()
	if err != nil {
		_, _ = commandsRead.Close(), commandsWrite.Close()
		return nil, fmt.Errorf("start the keeper: %w", err)
	}
	// No context bounds the keeper's life; the command pipe does.
	child := &childProcess{cmd: exec.CommandContext(context.Background(), program)}
	child.cmd.Args = []string{fmt.Sprintf("rdsfx keeper of %s for process %d", s.Dir, os.Getpid())}
	child.cmd.Env = keeperEnviron(os.Environ())
	child.cmd.Stderr = &child.stderr
	passPipes(child.cmd, commandsRead, eventsWrite)
	err = startUnlabelled(child.cmd)
	_, _ = commandsRead.Close(), eventsWrite.Close()
	if err != nil {
		_, _ = commandsWrite.Close(), eventsRead.Close()
		return nil, fmt.Errorf("start the keeper, a second process of %s: %w", program, err)
	}
	process := Attach(child, commandsWrite, eventsRead, s, log)
	process.pid = child.cmd.Process.Pid
	return process, nil
}

// startUnlabelled starts a command in a goroutine without pprof labels. The goroutines that copy the command's output inherit
// the labels, and outlive the caller, which may be a test.
func startUnlabelled(cmd *exec.Cmd) error {
	started := make(chan error, 1)
	go func() {
		pprof.SetGoroutineLabels(context.Background())
		started <- cmd.Start()
	}()
	return <-started
}

// ownExecutable returns a path that starts this executable again. On Linux it is valid even after the file was removed.
func ownExecutable() (string, error) {
	if runtime.GOOS == "linux" {
		if _, err := os.Stat("/proc/self/exe"); err == nil {
			return "/proc/self/exe", nil
		}
	}
	return os.Executable()
}

// keeperEnviron returns the environment of a keeper: the program's own, which its package initialization may need, without the
// variables of libpq and pgx. It also turns off the race detector's delay of one second at exit (atexit_sleep_ms).
func keeperEnviron(environ []string) []string {
	race := "GORACE="
	var kept []string
	for _, entry := range environ {
		switch {
		case strings.HasPrefix(entry, "PG"):
		case strings.HasPrefix(entry, "GORACE="):
			race = entry + " "
		default:
			kept = append(kept, entry)
		}
	}
	return append(kept, race+"atexit_sleep_ms=0", envKeeper+"="+protocolVersion)
}

// childProcess runs a keeper as a process.
type childProcess struct {
	cmd *exec.Cmd
	// stderr is the output of the executable before it became a keeper.
	stderr bytes.Buffer
}

func (c *childProcess) Kill() { _ = c.cmd.Process.Kill() }

func (c *childProcess) Release() { _ = c.cmd.Process.Release() }

func (c *childProcess) Wait() string {
	status := "exit status 0"
	if err := c.cmd.Wait(); err != nil {
		status = err.Error()
	}
	return status + postgres.QuoteTail(c.stderr.String())
}

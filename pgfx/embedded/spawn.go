package embedded

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"go.uber.org/zap"
)

const noKeeper = "the program must be an ordinary Go executable whose package initialisation reaches pgfx/embedded"

// spawn starts this executable a second time, as the keeper of s.
func spawn(s spec, log *zap.Logger) (*keeperProcess, error) {
	if os.Getenv(keeperVariable) != "" {
		return nil, fmt.Errorf("this process was started as a keeper and didn't become one; unset %s if you have set it: %s", keeperVariable, noKeeper)
	}
	program, err := ownExecutable()
	if err != nil {
		return nil, fmt.Errorf("start the keeper: this program's own executable can't be found: %w", err)
	}
	return spawnProgram(program, s, log)
}

// spawnProgram starts program as the keeper of s. Closing the orders, or the end of this process, ends it.
func spawnProgram(program string, s spec, log *zap.Logger) (*keeperProcess, error) {
	ordersRead, ordersWrite, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start the keeper: %w", err)
	}
	eventsRead, eventsWrite, err := os.Pipe()
	if err != nil {
		_, _ = ordersRead.Close(), ordersWrite.Close()
		return nil, fmt.Errorf("start the keeper: %w", err)
	}
	// The keeper outlives every context: its life is that of the pipe.
	child := &childProcess{cmd: exec.CommandContext(context.Background(), program)}
	child.cmd.Args = []string{fmt.Sprintf("rdsfx keeper of %s for process %d", s.Dir, os.Getpid())}
	child.cmd.Env = keeperEnviron(os.Environ())
	child.cmd.Stderr = &child.stderr
	dressKeeper(child.cmd, ordersRead, eventsWrite)
	err = child.cmd.Start()
	_, _ = ordersRead.Close(), eventsWrite.Close()
	if err != nil {
		_, _ = ordersWrite.Close(), eventsRead.Close()
		return nil, fmt.Errorf("start the keeper, a second process of %s: %w", program, err)
	}
	return followKeeper(child, ordersWrite, eventsRead, s, log), nil
}

// ownExecutable returns the path by which this process's executable can be started again. On Linux it works even when the
// file has been removed.
func ownExecutable() (string, error) {
	if runtime.GOOS == "linux" {
		if _, err := os.Stat("/proc/self/exe"); err == nil {
			return "/proc/self/exe", nil
		}
	}
	return os.Executable()
}

// keeperEnviron returns the environment of a keeper: the program's own, whose package initialisation may need it, without what
// libpq and pgx read. The race detector otherwise keeps every process for a second at its end (its manual, "atexit_sleep_ms").
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
	return append(kept, race+"atexit_sleep_ms=0", keeperVariable+"="+keeperProtocol)
}

// childProcess is the process of a keeper.
type childProcess struct {
	cmd *exec.Cmd
	// stderr is what the executable said before it became a keeper.
	stderr bytes.Buffer
}

func (c *childProcess) kill() { _ = c.cmd.Process.Kill() }

// wait waits for the end of the process and tells how it was.
func (c *childProcess) wait() string {
	text := "exit status 0"
	if err := c.cmd.Wait(); err != nil {
		text = err.Error()
	}
	return text + quoteTail(c.stderr.String())
}

func (c *childProcess) leave() { _ = c.cmd.Process.Release() }

package embedded

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

// keeperProcess is a keeper seen from the process that started it.
type keeperProcess struct {
	cmd    *exec.Cmd
	orders *os.File
	// stderr is what the executable said before it became a keeper.
	stderr bytes.Buffer
	log    *zap.Logger

	// ready is closed when the server accepts connections; serverPID is set before.
	ready     chan struct{}
	serverPID int

	// done is closed when the keeper has ended and has been waited for; last is set before.
	done chan struct{}
	last event

	mu       sync.Mutex
	events   *os.File
	stopping bool
	closed   bool
	detached bool
}

// spawn starts a keeper for s. Closing the orders, or the end of this process, ends it.
func spawn(s spec, log *zap.Logger) (*keeperProcess, error) {
	if os.Getenv(keeperVariable) != "" {
		return nil, fmt.Errorf("this process was started as a keeper and didn't become one; unset %s if you have set it: "+
			"the program must be an ordinary Go executable whose package initialisation reaches pgfx/embedded", keeperVariable)
	}
	program, err := ownExecutable()
	if err != nil {
		return nil, fmt.Errorf("start the keeper: this program's own executable can't be found: %w", err)
	}
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
	cmd := exec.CommandContext(context.Background(), program) //nolint:gosec // this executable
	cmd.Args = []string{fmt.Sprintf("rdsfx keeper of %s for process %d", s.Dir, os.Getpid())}
	cmd.Env = keeperEnviron(os.Environ())
	dressKeeper(cmd, ordersRead, eventsWrite)
	k := &keeperProcess{cmd: cmd, orders: ordersWrite, log: log, ready: make(chan struct{}), done: make(chan struct{})}
	cmd.Stderr = &k.stderr
	k.events = eventsRead
	err = cmd.Start()
	_, _ = ordersRead.Close(), eventsWrite.Close()
	if err != nil {
		_, _ = ordersWrite.Close(), eventsRead.Close()
		return nil, fmt.Errorf("start the keeper, a second process of %s: %w", program, err)
	}
	go k.follow()
	// An error here means that the keeper has ended, which follow will notice.
	_ = json.NewEncoder(ordersWrite).Encode(order{Spec: &s})
	return k, nil
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

// follow reads what the keeper reports until it ends.
func (k *keeperProcess) follow() {
	decoder := json.NewDecoder(k.events)
	for {
		var next event
		if err := decoder.Decode(&next); err != nil {
			break
		}
		k.last = next
		if next.Kind == eventReady {
			k.serverPID = next.PID
			close(k.ready)
		}
	}
	_ = k.events.Close()
	wanted := k.release()
	if k.isDetached() {
		_ = k.cmd.Process.Release()
		close(k.done)
		return
	}
	err := k.cmd.Wait()
	switch k.last.Kind {
	case eventStopped, eventFailed:
	case "":
		k.last = event{Kind: eventFailed, Error: fmt.Sprintf("the keeper, a second process of this executable, ended before it began (%s): "+
			"the program must be an ordinary Go executable whose package initialisation reaches pgfx/embedded%s", exitOf(err), quoteTail(k.stderr.String()))}
	default:
		k.last = event{Kind: eventFailed, Error: fmt.Sprintf("the keeper of the server ended unexpectedly (%s)", exitOf(err))}
	}
	if k.serverPID != 0 && !wanted {
		k.log.Error("postgres ended unexpectedly", zap.Int("pid", k.serverPID), zap.String("reason", k.last.Error))
	}
	close(k.done)
}

func exitOf(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}

// await waits until the server is ready. When it can't be, or ctx ends, the keeper and the server are gone on return, unless
// that takes longer than grace.
func (k *keeperProcess) await(ctx context.Context, grace time.Duration) error {
	select {
	case <-k.ready:
		return nil
	case <-k.done:
		if k.last.Taken {
			return errTaken
		}
		return errors.New(k.last.Error)
	case <-ctx.Done():
	}
	k.release()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-k.done:
	case <-timer.C:
		return context.Cause(ctx)
	}
	if k.last.Kind == eventFailed {
		// What the keeper was at when it was called off.
		return fmt.Errorf("%w: %s", context.Cause(ctx), k.last.Error)
	}
	return context.Cause(ctx)
}

// detach leaves the keeper to itself: nothing of this process follows it any more, and nobody waits for its end but the system.
func (k *keeperProcess) detach() {
	k.mu.Lock()
	k.detached = true
	k.mu.Unlock()
	// Both are harmless when the keeper has ended.
	_ = k.events.Close()
	k.release()
	<-k.done
}

func (k *keeperProcess) isDetached() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.detached
}

// stop tells the keeper to end the server in the way of plan, without waiting.
func (k *keeperProcess) stop(plan stopPlan) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.closed {
		k.stopping = true
		_ = json.NewEncoder(k.orders).Encode(order{Stop: &plan})
	}
}

// release ends the orders: the keeper ends the server by itself, soon. It reports whether the end of the server had been asked for
// before.
func (k *keeperProcess) release() (wanted bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	wanted = k.stopping
	k.stopping = true
	if !k.closed {
		k.closed = true
		_ = k.orders.Close()
	}
	return wanted
}

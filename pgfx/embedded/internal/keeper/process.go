package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/pprof"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/postgres"
)

// Child runs a keeper.
type Child interface {
	Kill()
	// Wait waits for the end and describes it.
	Wait() string
	// Release gives up waiting.
	Release()
}

// Process is a keeper as seen by the process that started it. Its methods may be called concurrently.
type Process struct {
	child    Child
	pid      int
	shared   bool
	log      *zap.Logger
	commands *os.File
	events   *os.File

	// ready is closed when the server accepts connections; serverPID is set before.
	ready     chan struct{}
	serverPID int

	// done is closed when the keeper has ended and was waited for, or was detached; last is set before.
	done chan struct{}
	last event

	mu sync.Mutex
	// specSent reports that the child has become a keeper.
	specSent bool
	// stopSent reports that the end of the server was requested.
	stopSent bool
	closed   bool
	detached bool
}

// Attach communicates with a child that has just been started to run a keeper: it sends s and receives events.
func Attach(child Child, commands, events *os.File, s Spec, log *zap.Logger) *Process {
	p := &Process{
		child: child, shared: s.Shared != nil, log: log, commands: commands, events: events,
		ready: make(chan struct{}), done: make(chan struct{}),
	}
	go func() {
		pprof.SetGoroutineLabels(context.Background()) // as in startUnlabelled
		p.receive(s)
	}()
	return p
}

// PID returns the keeper's process id, or 0 if it isn't a separate process.
func (p *Process) PID() int { return p.pid }

// ServerPID returns the process id of the postmaster. It is valid after [Process.AwaitReady].
func (p *Process) ServerPID() int { return p.serverPID }

// Done is closed when the keeper has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Ended reports whether the keeper has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// receive sends s when the keeper is running and processes its events until it ends.
func (p *Process) receive(s Spec) {
	defer close(p.done)
	decoder := json.NewDecoder(p.events)
	for {
		var next event
		if err := decoder.Decode(&next); err != nil {
			break
		}
		p.last = next
		switch next.Kind {
		case eventHello:
			p.send(command{Spec: &s})
		case eventReady:
			p.serverPID = next.PID
			close(p.ready)
		}
	}
	_ = p.events.Close()
	stopSent := p.Abandon()
	if p.isDetached() {
		p.child.Release()
		return
	}
	status := p.child.Wait()
	switch p.last.Kind {
	case eventStopped, eventFailed:
	case "":
		p.last = event{Kind: eventFailed, Error: fmt.Sprintf("the keeper, a second process of this executable, ended before it could start a server: %s; %s", status, executableHint)}
	default:
		p.last = event{Kind: eventFailed, Error: "the keeper of the server ended unexpectedly: " + status}
		sweepServerDir(s.Dir)
	}
	if p.serverPID != 0 && !stopSent {
		p.log.Error("postgres ended unexpectedly", zap.Int("pid", p.serverPID), zap.String("reason", p.Reason()))
	}
}

// Reason describes why the keeper has ended. Call it only after [Process.Done] is closed.
func (p *Process) Reason() string {
	if p.last.Kind == eventStopped {
		return "its keeper was terminated"
	}
	return p.last.Error
}

// Result returns how the server was stopped, or an error if it ended in another way. Call it only after [Process.Done] is
// closed.
func (p *Process) Result() (postgres.ShutdownMode, error) {
	switch {
	case p.last.LostElection:
		return "", errLostElection
	case p.last.Kind == eventFailed:
		return "", errors.New(p.last.Error)
	}
	return p.last.Mode, nil
}

// AwaitReady waits until the server accepts connections. If it fails or ctx ends, keeper and server are gone when AwaitReady
// returns, unless that takes longer than grace.
func (p *Process) AwaitReady(ctx context.Context, grace time.Duration) error {
	select {
	case <-p.ready:
		return nil
	case <-p.done:
		if _, err := p.Result(); err != nil {
			return err
		}
		return errors.New(p.Reason())
	case <-ctx.Done():
	}
	p.Abandon()
	switch {
	case !p.isSpecSent():
		// The executable isn't a keeper yet: it has created nothing and doesn't read the command pipe.
		p.child.Kill()
	case p.shared:
		// This keeper ends when it has no lease, which the caller still holds.
		return context.Cause(ctx)
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		return context.Cause(ctx)
	}
	if p.isSpecSent() && p.last.Kind == eventFailed {
		// The keeper reports which step was interrupted.
		return fmt.Errorf("%w: %s", context.Cause(ctx), p.last.Error)
	}
	return context.Cause(ctx)
}

// Stop sends the command to stop the server according to plan. It doesn't wait; [Process.Done] does.
func (p *Process) Stop(plan postgres.StopPlan) { p.send(command{Stop: &plan}) }

// send writes a command unless the pipe is closed. An error means that the keeper has ended, which receive detects.
func (p *Process) send(c command) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.specSent = p.specSent || c.Spec != nil
	p.stopSent = p.stopSent || c.Stop != nil
	_ = json.NewEncoder(p.commands).Encode(c) //nolint:errchkjson // see above
}

func (p *Process) isSpecSent() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.specSent
}

// Abandon closes the command pipe, so the keeper stops the server on its own. It reports whether a stop had been requested
// before.
func (p *Process) Abandon() (stopSent bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	stopSent = p.stopSent
	p.stopSent = true
	if !p.closed {
		p.closed = true
		_ = p.commands.Close()
	}
	return stopSent
}

// Detach separates a shared server's keeper from this process, which no longer receives its events or waits for its end.
func (p *Process) Detach() {
	p.mu.Lock()
	p.detached = true
	p.mu.Unlock()
	// Both are no-ops if the keeper has ended.
	_ = p.events.Close()
	p.Abandon()
	<-p.done
}

func (p *Process) isDetached() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.detached
}

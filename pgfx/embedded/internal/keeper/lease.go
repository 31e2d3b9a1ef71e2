package keeper

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/rdsfx-go/rdsfx/internal/filelock"
)

// pollInterval is the time between two reads of an entry's state.
const pollInterval = 5 * time.Millisecond

// Lease keeps a shared server alive. The operating system releases it when the process ends.
type Lease struct {
	entry Entry
	file  *os.File
	// State describes the server.
	State State
	// Started reports that this process started the server.
	Started bool
}

// Join returns a lease on the server of e. If the server isn't running, it starts a keeper with spawn. If ctx ends, Join
// returns its cause after cleaning up, for which it waits no longer than grace.
func Join(ctx context.Context, e Entry, grace time.Duration, spawn func() (*Process, error)) (*Lease, error) {
	for {
		lease, err := join(ctx, e, grace, spawn)
		if errors.Is(err, errLostElection) {
			continue
		}
		return lease, err
	}
}

func join(ctx context.Context, e Entry, grace time.Duration, spawn func() (*Process, error)) (*Lease, error) {
	election, err := e.lock(ctx, ElectionFile, true)
	if err != nil {
		return nil, err
	}
	defer filelock.Release(election)
	file, err := e.lock(ctx, LeaseFile, false)
	if err != nil {
		return nil, err
	}
	lease := &Lease{entry: e, file: file}
	lease.State, err = e.awaitState(ctx)
	if errors.Is(err, errNoKeeper) {
		lease.Started = true
		lease.State, err = e.start(ctx, grace, spawn)
	}
	if err != nil {
		filelock.Release(file)
		if !e.hasKeeper() {
			filelock.Release(election)
			e.sweep()
		}
		return nil, err
	}
	return lease, nil
}

var errNoKeeper = errors.New("the server has no keeper")

// awaitState waits for the state of a server that another process has started. The caller must hold the election lock and a
// lease, so a running server stays.
func (e Entry) awaitState(ctx context.Context) (State, error) {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		if !e.hasKeeper() {
			return State{}, errNoKeeper
		}
		// The process that started the keeper may have been killed before the server was ready.
		if state, err := e.readState(); err == nil {
			return state, nil
		}
		select {
		case <-ctx.Done():
			return State{}, context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// start starts a keeper for the entry and detaches it when the server is ready.
func (e Entry) start(ctx context.Context, grace time.Duration, spawn func() (*Process, error)) (State, error) {
	_ = os.Remove(e.Path(StateFile))
	keeper, err := spawn()
	if err != nil {
		return State{}, err
	}
	defer keeper.Detach()
	if err := keeper.AwaitReady(ctx, grace); err != nil {
		return State{}, err
	}
	return e.readState()
}

// Valid reports whether the server of the lease still exists. If its keeper was killed, another process may have started
// another server for the same entry.
func (l *Lease) Valid() bool {
	if !l.entry.hasKeeper() {
		return false
	}
	state, err := l.entry.readState()
	return err == nil && state.Spec.Dir == l.State.Spec.Dir
}

// Release ends the lease.
func (l *Lease) Release() {
	filelock.Release(l.file)
	if !l.entry.hasKeeper() {
		// The keeper was killed, so it couldn't remove the entry.
		l.entry.sweep()
	}
}

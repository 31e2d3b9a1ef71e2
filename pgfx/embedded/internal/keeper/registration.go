package keeper

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/rdsfx-go/rdsfx/internal/filelock"
)

const (
	// IdleTimeout is how long a shared server without a lease waits for the next process. Test packages that run one after
	// another therefore share a server.
	IdleTimeout = time.Second
	// idleCheckInterval is the time between two checks for leases.
	idleCheckInterval = 50 * time.Millisecond
	// registerTimeout is how long a new keeper waits for the keeper lock, which clients hold for a moment when they test it.
	registerTimeout = time.Second
)

var (
	errIdle         = errors.New("no process uses the server")
	errLostElection = errors.New("another keeper runs the shared server")
)

// registration is the keeper's side of an entry: it holds the keeper lock.
type registration struct {
	Entry

	keeper, lease *os.File
	// election is held from the decision to end.
	election *os.File
}

// register makes this process the keeper of the entry. It returns errLostElection if another one is.
func (e Entry) register(ctx context.Context) (*registration, error) {
	limit, cancel := context.WithTimeoutCause(ctx, registerTimeout, errLostElection)
	defer cancel()
	keeper, err := e.lock(limit, KeeperFile, true)
	if err != nil {
		return nil, err
	}
	lease, err := e.open(LeaseFile)
	if err != nil {
		filelock.Release(keeper)
		return nil, err
	}
	return &registration{Entry: e, keeper: keeper, lease: lease}, nil
}

// awaitIdle returns true when there was no lease for IdleTimeout and new ones are prevented. It returns false when ctx ends.
func (r *registration) awaitIdle(ctx context.Context) bool {
	ticker := time.NewTicker(idleCheckInterval)
	defer ticker.Stop()
	var idleSince time.Time
	for {
		select {
		case <-ctx.Done():
			return false
		case now := <-ticker.C:
			switch {
			case r.isLeased():
				idleSince = time.Time{}
			case idleSince.IsZero():
				idleSince = now
			case now.Sub(idleSince) >= IdleTimeout && r.close():
				return true
			}
		}
	}
}

// isLeased reports whether a process holds a lease.
func (r *registration) isLeased() bool {
	free, err := filelock.Try(r.lease, true)
	if err != nil || !free {
		return true
	}
	_ = filelock.Unlock(r.lease)
	return false
}

// close takes the election lock, which prevents new leases. It fails if a process holds the lock or a lease.
func (r *registration) close() bool {
	election, err := r.open(ElectionFile)
	if err != nil {
		// Without the registry, no process can find the server.
		return true
	}
	if locked, err := filelock.Try(election, true); err != nil || !locked || !filelock.IsCurrent(election) || r.isLeased() {
		filelock.Release(election)
		return false
	}
	r.election = election
	return true
}

// remove removes the entry after the server was stopped. If other processes hold the election lock or a lease, only the state
// file is removed and the rest is left to them.
func (r *registration) remove() {
	if r.election == nil {
		r.close()
	}
	if r.election != nil {
		r.Entry.remove()
	} else {
		_ = os.Remove(r.Path(StateFile))
	}
	for _, file := range []*os.File{r.lease, r.keeper, r.election} {
		if file != nil {
			filelock.Release(file)
		}
	}
}

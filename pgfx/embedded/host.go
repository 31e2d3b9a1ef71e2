package embedded

import (
	"context"
	"errors"
	"os"
	"time"
)

const (
	// linger is how long a shared server waits for the next one after the last process that used it has ended, so that test
	// packages that run one after another find it.
	linger = time.Second
	// leasePause is the time between two looks at whether anybody uses the server.
	leasePause = 50 * time.Millisecond
	// claimLimit is how long a new keeper waits for its own lock, which clients hold for a moment when they look at it.
	claimLimit = time.Second
)

var (
	errUnused = errors.New("no process uses the server any more")
	errTaken  = errors.New("another keeper was faster")
)

// host is the keeper's side of a meeting.
type host struct {
	meeting

	keeper, lease *os.File
	// elect is held from the decision to end on.
	elect *os.File
}

// host makes this process the keeper of the meeting.
func (m meeting) host(ctx context.Context) (*host, error) {
	limit, cancel := context.WithTimeoutCause(ctx, claimLimit, errTaken)
	defer cancel()
	keeper, err := m.lock(limit, keeperFile, true)
	if err != nil {
		return nil, err
	}
	lease, err := m.open(leaseFile)
	if err != nil {
		giveUp(keeper)
		return nil, err
	}
	return &host{meeting: m, keeper: keeper, lease: lease}, nil
}

// watch returns when nobody has used the server for the time of linger and nobody can come any more, or when ctx ends.
func (h *host) watch(ctx context.Context) bool {
	ticker := time.NewTicker(leasePause)
	defer ticker.Stop()
	var unused time.Time
	for {
		select {
		case <-ctx.Done():
			return false
		case now := <-ticker.C:
			switch {
			case !h.unused():
				unused = time.Time{}
			case unused.IsZero():
				unused = now
			case now.Sub(unused) >= linger && h.close():
				return true
			}
		}
	}
}

// unused reports whether nobody holds a lease.
func (h *host) unused() bool {
	free, err := tryLock(h.lease, true)
	if err != nil || !free {
		return false
	}
	_ = unlock(h.lease)
	return true
}

// close takes the election, so that nobody comes any more, unless somebody is coming just now.
func (h *host) close() bool {
	elect, err := h.open(electFile)
	if err != nil {
		// The place itself is gone: nobody can come.
		return true
	}
	if free, err := tryLock(elect, true); err != nil || !free || !current(elect) || !h.unused() {
		giveUp(elect)
		return false
	}
	h.elect = elect
	return true
}

// leave ends the meeting after the server. A keeper that ends for another reason than disuse leaves the files to a client that holds
// the election just now, or to those that still believe in the server.
func (h *host) leave() {
	if h.elect == nil {
		h.close()
	}
	if h.elect != nil {
		h.disband()
	} else {
		_ = os.Remove(h.path(stateFile))
	}
	for _, file := range []*os.File{h.lease, h.keeper, h.elect} {
		if file != nil {
			giveUp(file)
		}
	}
}

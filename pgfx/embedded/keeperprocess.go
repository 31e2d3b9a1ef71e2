package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"
)

// child is what runs a keeper.
type child interface {
	kill()
	// wait waits for its end and tells how it was; leave gives up waiting for ever.
	wait() string
	leave()
}

// keeperProcess is a keeper seen from the process that started it.
type keeperProcess struct {
	child  child
	shared bool
	log    *zap.Logger
	orders *os.File
	events *os.File

	// ready is closed when the server accepts connections; serverPID is set before.
	ready     chan struct{}
	serverPID int

	// done is closed when the keeper has ended and has been waited for; last is set before.
	done chan struct{}
	last event

	mu sync.Mutex
	// ordered tells that the child has become a keeper and got its spec.
	ordered  bool
	stopping bool
	closed   bool
	detached bool
}

// followKeeper gives a child its first order and follows what it reports.
func followKeeper(c child, orders, events *os.File, s spec, log *zap.Logger) *keeperProcess {
	k := &keeperProcess{
		child: c, shared: s.Meeting != nil, log: log, orders: orders, events: events,
		ready: make(chan struct{}), done: make(chan struct{}),
	}
	go k.follow(s)
	return k
}

// follow tells the keeper what to do when it is there, and reads what it reports until it ends.
func (k *keeperProcess) follow(s spec) {
	defer close(k.done)
	decoder := json.NewDecoder(k.events)
	for {
		var next event
		if err := decoder.Decode(&next); err != nil {
			break
		}
		k.last = next
		switch next.Kind {
		case eventHello:
			k.order(order{Spec: &s})
		case eventReady:
			k.serverPID = next.PID
			close(k.ready)
		}
	}
	_ = k.events.Close()
	wanted := k.release()
	if k.isDetached() {
		k.child.leave()
		return
	}
	end := k.child.wait()
	switch k.last.Kind {
	case eventStopped, eventFailed:
	case "":
		k.last = event{Kind: eventFailed, Error: fmt.Sprintf("the keeper, a second process of this executable, ended before it began: %s; %s", end, noKeeper)}
	default:
		k.last = event{Kind: eventFailed, Error: "the keeper of the server ended unexpectedly: " + end}
		sweepDir(s.Dir)
	}
	if k.serverPID != 0 && !wanted {
		k.log.Error("postgres ended unexpectedly", zap.Int("pid", k.serverPID), zap.String("reason", k.reason()))
	}
}

// reason tells why a keeper that is done has ended.
func (k *keeperProcess) reason() string {
	if k.last.Kind == eventStopped {
		return "its keeper was told to end"
	}
	return k.last.Error
}

// await waits until the server is ready. When it can't be, or ctx ends, the keeper and the server are gone on return, unless
// that takes longer than grace.
func (k *keeperProcess) await(ctx context.Context, grace time.Duration) error {
	select {
	case <-k.ready:
		return nil
	case <-k.done:
		return k.failure()
	case <-ctx.Done():
	}
	k.release()
	switch {
	case !k.isOrdered():
		// Whatever this is, it has made nothing yet and doesn't know that it should end.
		k.child.kill()
	case k.shared:
		// It ends when it sees that nobody uses its server, not before we have given up our share.
		return context.Cause(ctx)
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-k.done:
	case <-timer.C:
		return context.Cause(ctx)
	}
	if k.isOrdered() && k.last.Kind == eventFailed {
		// What the keeper was at when it was called off.
		return fmt.Errorf("%w: %s", context.Cause(ctx), k.last.Error)
	}
	return context.Cause(ctx)
}

func (k *keeperProcess) failure() error {
	if k.last.Taken {
		return errTaken
	}
	return errors.New(k.reason())
}

// ended reports whether the keeper is done.
func (k *keeperProcess) ended() bool {
	select {
	case <-k.done:
		return true
	default:
		return false
	}
}

// stop tells the keeper to end the server in the way of plan, without waiting.
func (k *keeperProcess) stop(plan stopPlan) { k.order(order{Stop: &plan}) }

// order tells the keeper something, if it may still be told. An error means that it has ended, which follow notices.
func (k *keeperProcess) order(o order) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return
	}
	k.ordered = k.ordered || o.Spec != nil
	k.stopping = k.stopping || o.Stop != nil
	_ = json.NewEncoder(k.orders).Encode(o) //nolint:errchkjson // see above
}

func (k *keeperProcess) isOrdered() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ordered
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

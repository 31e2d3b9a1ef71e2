package health

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"go.uber.org/fx"
	"go.uber.org/zap"
)

const (
	// subscriberRoom is how many transitions wait for a subscriber before the oldest is dropped.
	subscriberRoom = 16
	// observerRoom is the same for all observers together.
	observerRoom = 64
)

// hub hands transitions to subscribers and never waits for them.
type hub struct {
	mu     sync.Mutex
	subs   map[chan Transition]struct{}
	missed int
	closed bool
}

// subscribe returns a channel and what ends the subscription.
func (h *hub) subscribe(room int) (channel <-chan Transition, cancel func()) {
	sub := make(chan Transition, room)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		close(sub)
		return sub, func() {}
	}
	if h.subs == nil {
		h.subs = make(map[chan Transition]struct{})
	}
	h.subs[sub] = struct{}{}
	return sub, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if _, open := h.subs[sub]; open {
			delete(h.subs, sub)
			close(sub)
		}
	}
}

// publish gives t to every subscriber. Where there is no room it drops the oldest: what is true now matters most.
func (h *hub) publish(t Transition) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for sub := range h.subs {
		for sent := false; !sent; {
			select {
			case sub <- t:
				sent = true
			default:
				select {
				case <-sub:
					h.missed++
				default: // the subscriber has just taken one
				}
			}
		}
	}
}

// close ends all subscriptions, after what they have not taken yet.
func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for sub := range h.subs {
		delete(h.subs, sub)
		close(sub)
	}
}

func (h *hub) dropped() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.missed
}

// Observer is told about every transition of a database.
type Observer struct {
	// Name says in logs who it is.
	Name string
	// Database is the name of the database that it wants to hear about, "" for the default one.
	Database string
	// Order sorts the observers of a database, small first; those of the same order are called in the order of their names.
	Order int
	// Observe is called with one transition at a time, in their order, after the monitor has acted on it. One that takes long
	// holds up the other observers and not the monitor; when 64 transitions wait, the oldest is dropped. A panic is
	// logged. ctx ends when the monitor's Stop runs out of time.
	Observe func(ctx context.Context, t Transition)
}

// Observe gives observers to the databases of an Fx application. An observer that needs something from Fx is provided by a
// constructor with the result tag `group:"health.observers"`.
func ProvideObservers(observers ...Observer) fx.Option {
	return supplyGroup(`group:"health.observers"`, observers)
}

func supplyGroup[T any](group string, values []T) fx.Option {
	supplied := make([]any, len(values))
	for i, value := range values {
		supplied[i] = fx.Annotate(value, fx.ResultTags(group))
	}
	return fx.Supply(supplied...)
}

// observersOf returns those of a database, in their order.
func observersOf(database string, all []Observer) []Observer {
	var own []Observer
	for _, observer := range all {
		if observer.Database == database && observer.Observe != nil {
			own = append(own, observer)
		}
	}
	slices.SortStableFunc(own, func(a, b Observer) int { return cmp.Or(cmp.Compare(a.Order, b.Order), cmp.Compare(a.Name, b.Name)) })
	return own
}

// tell calls one observer and survives it.
func tell(ctx context.Context, logger *zap.Logger, observer Observer, t Transition) {
	defer func() {
		if p := recover(); p != nil {
			logger.Error("a health observer panicked", zap.String("observer", observer.Name), zap.Any("panic", p), zap.StackSkip("stack", 1))
		}
	}()
	observer.Observe(ctx, t)
}

package health

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"go.uber.org/fx"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/internal/fxgroup"
)

const (
	// subscriberBuffer is how many transitions wait for a subscriber before the oldest is dropped.
	subscriberBuffer = 16
	// observerBuffer is how many transitions wait for all observers together.
	observerBuffer = 64
)

// hub sends transitions to subscribers. It never waits for them.
type hub struct {
	mu           sync.Mutex
	subs         map[chan Transition]struct{}
	droppedCount int
	closed       bool
}

func (h *hub) subscribe(buffer int) (channel <-chan Transition, cancel func()) {
	sub := make(chan Transition, buffer)
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

// publish sends t to every subscriber. If a buffer is full, it drops the oldest transition there: the newest one matters most.
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
					h.droppedCount++
				default: // the subscriber has just received one
				}
			}
		}
	}
}

// close ends all subscriptions. Transitions that are buffered can still be received.
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
	return h.droppedCount
}

// Observer is notified of every transition of a database.
type Observer struct {
	// Name identifies the observer in logs.
	Name string
	// Order sorts the observers of a database, smallest first. Observers of equal order are called in the order of their
	// names.
	Order int
	// Observe is called for one transition at a time, in order, after the monitor has acted on it. A slow observer delays the
	// other observers, but not the monitor; when 64 transitions wait, the oldest is dropped. A panic is logged. ctx ends when
	// the deadline of the monitor's Close has passed.
	Observe func(ctx context.Context, t Transition)

	database string
}

// For returns a copy of o that observes the database with this name (see rdsfx.ModuleFor). Without For, an observer that is
// provided to Fx observes the default database. Passed to [WithObservers], it observes that monitor's database.
func (o Observer) For(database string) Observer {
	o.database = database
	return o
}

// Database returns the name that [Observer.For] set, or "".
func (o Observer) Database() string { return o.database }

// ProvideObservers passes observers to the monitors of an Fx application: to the default database's monitor unless
// [Observer.For] names another database. If an observer needs a value from Fx, provide it with a constructor that has the
// result tag `group:"health.observers"`.
func ProvideObservers(observers ...Observer) fx.Option {
	return fxgroup.Supply("health.observers", observers...)
}

// observersOf returns the observers of a database in the order in which they are called.
func observersOf(database string, all []Observer) []Observer {
	var own []Observer
	for _, observer := range all {
		if (observer.database == "" || observer.database == database) && observer.Observe != nil {
			own = append(own, observer)
		}
	}
	slices.SortStableFunc(own, func(a, b Observer) int { return cmp.Or(cmp.Compare(a.Order, b.Order), cmp.Compare(a.Name, b.Name)) })
	return own
}

// callObservers calls the observers for each transition until the subscription ends.
func (m *Monitor) callObservers() {
	for t := range m.observed {
		for _, observer := range m.observers {
			callObserver(m.observerCtx, m.logger, observer, t)
		}
	}
}

// callObserver calls one observer and recovers its panic.
func callObserver(ctx context.Context, logger *zap.Logger, observer Observer, t Transition) {
	defer func() {
		if p := recover(); p != nil {
			logger.Error("health observer panicked", zap.String("observer", observer.Name), zap.Any("panic", p), zap.StackSkip("stack", 1))
		}
	}()
	observer.Observe(ctx, t)
}

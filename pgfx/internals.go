package pgfx

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
)

// Internals is for packages that extend the pool, such as health and txn. It reports failures, guards acquires, opens and closes
// the gate, routes connections, finds stalled statements, and notifies observers of traffic. Applications need none of it.
//
// An Internals is safe for concurrent use.
type Internals struct {
	db       *DB
	failures subscribers[func(error)]
	guards   subscribers[func(context.Context) error]

	observers subscribers[Observer]

	topologies subscribers[func(Topology)]
	topology   atomic.Pointer[Topology]
	route      atomic.Pointer[RouteFunc]
}

// Internals returns the part of db that packages which extend the pool need. It is the same value on every call.
func (db *DB) Internals() *Internals { return &db.internals }

// SubscribeFailures calls fn with every error of the pool: of statements, acquires and attempts to connect, including
// constraint violations and cancelled contexts. fn receives pgx's own error and selects what it needs. If a connection was closed
// because the context of its statement had ended, the error also matches that of the context. The health monitor
// uses it to probe the database as soon as a statement fails.
//
// The goroutine with the error calls fn before it returns the error to its caller. So fn must return quickly and be safe for
// concurrent use. cancel removes fn and leaves other subscribers in place; it may be called more than once. A call
// of fn that is under way when cancel returns may still finish afterwards.
func (i *Internals) SubscribeFailures(fn func(err error)) (cancel func()) { return i.failures.add(fn) }

// GuardAcquire calls fn before each acquire of the pool, with the context of that acquire. If fn returns an error, the
// acquire fails with it and uses no connection. Package txn uses it to find statements that bypass a running transaction.
//
// Guards run in the order in which they were added, up to the first error. fn runs on every acquire: it must return
// quickly, be safe for concurrent use and must not use the pool. cancel removes fn and leaves other guards in place; it may
// be called more than once.
func (i *Internals) GuardAcquire(fn func(ctx context.Context) error) (cancel func()) {
	return i.guards.add(fn)
}

// Gate returns the gate of the pool, which the health monitor opens and closes.
func (i *Internals) Gate() *Gate { return &i.db.gate }

// Closing returns a channel that is closed when [DB.Close] begins. Package fxtest uses it to report connections that are not
// released then.
func (i *Internals) Closing() <-chan struct{} { return i.db.lifetime.Done() }

// LimitLease replaces Config.Stats.LongLease by limit for the current lease of conn, a connection of the pool that the caller
// holds. Package txn uses it to report long-running transactions. If Config.Stats.Disabled is set it does nothing.
func (i *Internals) LimitLease(conn *pgx.Conn, limit *LeaseLimit) {
	if state := stateOf(conn); state != nil {
		i.db.stats.LimitLease(state.stats, limit.limit)
	}
}

// subscribers is a list of functions that hot paths read without a lock: add and cancel replace the slice instead of
// changing it. The zero value is empty.
type subscribers[F any] struct {
	mu   sync.Mutex
	list atomic.Pointer[[]*F]
}

// add appends fn and returns a function that removes it.
func (s *subscribers[F]) add(fn F) (cancel func()) {
	entry := &fn
	s.mu.Lock()
	defer s.mu.Unlock()
	list := append(slices.Clone(s.all()), entry)
	s.list.Store(&list)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		list := slices.DeleteFunc(slices.Clone(s.all()), func(e *F) bool { return e == entry })
		if len(list) == 0 {
			s.list.Store(nil)
			return
		}
		s.list.Store(&list)
	}
}

// all returns the functions in the order in which they were added.
func (s *subscribers[F]) all() []*F {
	if list := s.list.Load(); list != nil {
		return *list
	}
	return nil
}

// reportFailure passes an error to the subscribers.
func (db *DB) reportFailure(err error) {
	for _, fn := range db.internals.failures.all() {
		(*fn)(err)
	}
}

// guardAcquire returns the first error of a guard.
func (db *DB) guardAcquire(ctx context.Context) error {
	for _, fn := range db.internals.guards.all() {
		if err := (*fn)(ctx); err != nil {
			return err
		}
	}
	return nil
}

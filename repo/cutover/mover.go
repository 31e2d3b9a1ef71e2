package cutover

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
	"github.com/rdsfx-go/rdsfx/txn"
)

// Mover is one cutover in one process. [Mover.Start] makes the process take part: it observes the phase, renews its lease and works
// the repair log off. The application reads and writes through [Mover.Store].
//
// The methods Plan, Status, Backfill, Verify, Repair, Advance, Rollback and Clean are for operators. They need no Start, so a command can
// call them in a process without traffic. All methods are safe for concurrent use, also by several processes.
type Mover[V any] struct {
	tx     *txn.Manager
	name   string
	old    Old[V]
	new    New[V]
	config Config[V]
	logger *zap.Logger
	host   string
	id     uuid.UUID

	view    atomic.Pointer[view] // nil until the state was read
	polling chan struct{}        // holds one element while a goroutine polls
	shadow  shadow

	unsyncedLogged atomic.Int64 // when a failed copy was last logged, in Unix nanoseconds

	mu       sync.Mutex      // guards what follows
	lifetime context.Context //nolint:containedctx // ends background work
	end      context.CancelFunc
	running  sync.WaitGroup
}

// NewMover returns the cutover with this name, of the keys of one old store to PostgreSQL. It opens no connection. The name identifies
// the cutover in the tables of [Setup]. The error reports an invalid configuration.
//
// PostgreSQL must keep what it has committed. Transactions of the mover set synchronous_commit on if it is off.
func NewMover[V any](tx *txn.Manager, name string, source Old[V], target New[V], config Config[V]) (*Mover[V], error) {
	if tx == nil || name == "" || source == nil || target == nil {
		return nil, errors.New("cutover: NewMover needs a manager, a name, an old store and a PostgreSQL side")
	}
	config, err := config.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("cutover: %s: %w", name, err)
	}
	logger := config.Logger
	if logger == nil {
		logger = tx.DB().Logger()
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	m := &Mover[V]{
		tx: tx, name: name, old: source, new: target, config: config, host: host, id: uuid.New(), polling: make(chan struct{}, 1),
		logger: logger.Named("cutover").With(zap.String("cutover", name)),
	}
	m.shadow.slots = make(chan struct{}, config.ShadowReads)
	return m, nil
}

// Name returns the name of the cutover.
func (m *Mover[V]) Name() string { return m.name }

// Store returns the store that the application uses in place of the old one. Every call returns an equal value.
func (m *Mover[V]) Store() *Store[V] { return &Store[V]{m} }

// Start reads the state and begins to take part in the cutover. If PostgreSQL can't be reached, it logs that and tries again in
// the background; reads and writes return [ErrStateUnknown] meanwhile. It returns an error if the tables are missing, or after a
// second call. ctx bounds Start and is not kept.
func (m *Mover[V]) Start(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lifetime != nil {
		return fmt.Errorf("cutover: %s: already started", m.name)
	}
	pollCtx, cancel := context.WithTimeout(ctx, m.config.Lease)
	defer cancel()
	if err := m.poll(pollCtx); err != nil {
		if sqlstate.Code(err) == sqlstate.UndefinedTable {
			return err
		}
		m.logger.Warn("cannot read the state of the cutover", zap.Error(err))
	}
	m.lifetime, m.end = context.WithCancel(context.Background()) //nolint:gosec // Stop calls it
	m.every(m.config.Poll, m.keepPolling())
	m.every(m.config.Repair, m.keepRepairing())
	if sweeper, ok := m.new.(NewSweeper); ok && m.config.Sweep > 0 {
		m.every(m.config.Sweep, m.keepSweeping(sweeper))
	}
	return nil
}

// Stop ends the background work, waits for it and gives the lease up. ctx bounds the wait. Stop may be called more than once, and
// without Start. Stop the application's use of the store first.
func (m *Mover[V]) Stop(ctx context.Context) error {
	m.mu.Lock()
	end := m.end
	if end != nil {
		end()
	}
	m.mu.Unlock()
	if end == nil {
		return nil
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.running.Wait()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		return fmt.Errorf("cutover: %s: stop: %w", m.name, context.Cause(ctx))
	}
	_, err := m.tx.Exec(ctx, "delete from rdsfx_cutover_processes where name = $1 and id = $2", m.name, m.id)
	if err != nil {
		m.logger.Warn("cannot give the lease up; it will expire", zap.Error(err))
	}
	return nil
}

// isRunning reports whether the mover is started and not stopped.
func (m *Mover[V]) isRunning() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lifetime != nil && m.lifetime.Err() == nil
}

// every calls fn at once and then at the interval, until the mover is stopped.
func (m *Mover[V]) every(interval time.Duration, fn func(ctx context.Context)) {
	m.running.Go(func() {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			fn(m.lifetime)
			select {
			case <-ticker.C:
			case <-m.lifetime.Done():
				return
			}
		}
	})
}

// inBackground calls fn in a goroutine that Stop waits for. It reports whether it does so: after Stop it doesn't.
func (m *Mover[V]) inBackground(fn func(ctx context.Context)) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lifetime == nil || m.lifetime.Err() != nil {
		return false
	}
	m.running.Go(func() { fn(m.lifetime) })
	return true
}

// keepSweeping deletes expired rows.
func (m *Mover[V]) keepSweeping(sweeper NewSweeper) func(context.Context) {
	failed := false
	return func(ctx context.Context) {
		const limit = 1000
		for deleted := int64(limit); deleted >= limit; {
			var err error
			if deleted, err = sweeper.DeleteExpired(ctx, limit); err != nil {
				if !failed && ctx.Err() == nil {
					m.logger.Warn("cannot delete expired rows", zap.Error(err))
				}
				failed = true
				return
			}
		}
		failed = false
	}
}

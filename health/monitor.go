package health

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// ErrClosed is the error of a [Monitor] that is closed.
var ErrClosed = errors.New("health: the monitor is closed")

// Monitor probes one database and recovers its pool. Make one with [NewMonitor], start it once and close it once. Its methods are
// safe for concurrent use.
type Monitor struct {
	db        *pgfx.DB
	logger    *zap.Logger
	interval  time.Duration // 0: the monitor does not probe by itself
	observers []Observer
	observed  <-chan Transition
	hub       hub

	// turn is a lock that can be waited for with a context. The goroutine that probes holds it. It guards the
	// fields that follow.
	turn               chan struct{}
	prober             *prober
	poolTracker        poolTracker
	machine            stateMachine
	backoff            backoff
	needNewConn        bool      // the next probe opens a connection
	otherServerResetAt time.Time // when poolOnOtherServer last returned true

	stalled         stalledBackoff  // used by run only
	orphansRefused  atomic.Bool     // the server refuses to end backends
	rescheduled     chan struct{}   // the schedule has changed
	lifetime        context.Context //nolint:containedctx // it ends when the monitor is closed
	cancel          context.CancelFunc
	observerCtx     context.Context //nolint:containedctx // it ends when Close has run out of time
	cancelObservers context.CancelFunc
	background      sync.WaitGroup
	firstProbe      chan struct{} // closed after run's first probe
	closeOnce       sync.Once
	closeDone       chan struct{}

	mu       sync.Mutex // guards the fields that follow
	running  bool
	closed   bool
	status   Status
	schedule schedule
	signals  signal // received since the last probe began
	refused  refusedLogin

	orphanBackoff orphanBackoff
	// suspectsBefore is the time of the last reset because the pool's connections are probably broken. Connections that were
	// opened before may be, too, as long as they are in use.
	suspectsBefore time.Time
	checks         []*checkState
	// topologyChanges is the last pgfx.Topology.Changes.
	topologyChanges int
	switching       bool   // the last pgfx.BlueGreen.Switching
	interruptProbe  func() // ends the probe that is under way, nil if there is none
	unsubscribe     func() // from the pool's failures and the topology; set by Start
}

// NewMonitor makes a monitor for db, which may be started before or after. It opens no connection and starts no goroutine. The
// interval and the timeout are those of db's Config.Health.
func NewMonitor(db *pgfx.DB, opts ...Option) (*Monitor, error) {
	if db == nil {
		return nil, errors.New("health: no database to monitor; pass the result of pgfx.Open")
	}
	settings := options{logger: db.Logger()}
	for _, opt := range opts {
		if opt.apply != nil {
			opt.apply(&settings)
		}
	}
	m := &Monitor{
		db: db, logger: settings.logger.Named("health"), interval: max(0, db.Config().Health.Interval),
		observers: observersOf(db.Name(), settings.observers), checks: checksOf(db.Name(), settings.checks),
		turn: make(chan struct{}, 1), prober: newProber(db), rescheduled: make(chan struct{}, 1),
		firstProbe: make(chan struct{}), closeDone: make(chan struct{}),
		status: Status{Database: db.Name(), State: Starting, Since: time.Now()},
	}
	m.backoff.interval = m.interval
	if db.Name() != "" {
		m.logger = m.logger.With(zap.String("database_name", db.Name()))
	}
	m.lifetime, m.cancel = context.WithCancel(context.Background())
	m.observerCtx, m.cancelObservers = context.WithCancel(context.Background())
	if len(m.observers) > 0 {
		m.observed, _ = m.hub.subscribe(observerBuffer)
	}
	return m, nil
}

// Start begins to probe. Call it after the DB's Start. If that has reached the database, Start waits for the first probe, or for
// the end of ctx. Components that start next then find a decided state. Otherwise Start returns at once. It keeps nothing of
// ctx.
//
// A failed probe is not an error of Start, nor is the end of ctx. A second Start does nothing. After Close the error is
// [ErrClosed].
func (m *Monitor) Start(ctx context.Context) error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return ErrClosed
	}
	again := m.running
	if !again {
		m.running = true
		m.status.Monitored = m.interval > 0
		if m.interval > 0 {
			m.background.Go(m.run)
			m.topologyChanges = m.db.Topology().Changes
			unsubscribeFailures := m.db.Internals().SubscribeFailures(m.recordFailure)
			unsubscribeTopology := m.db.Internals().SubscribeTopology(m.recordTopology)
			m.unsubscribe = func() { unsubscribeFailures(); unsubscribeTopology() }
		}
		if len(m.observers) > 0 {
			m.background.Go(m.callObservers)
		}
	}
	m.mu.Unlock()
	if again || m.interval == 0 || !m.db.IsHealthy() {
		return nil
	}
	select {
	case <-m.firstProbe:
	case <-ctx.Done():
	}
	return nil
}

// Close stops probing, closes the monitor's connection, sends subscribers the transition to [Stopped] and closes their
// channels. Call it before the DB's Close: it leaves the gate as it is.
//
// If an observer or a check hangs, Close returns an error when ctx ends. Close may be called any number of times, before Start
// too; a later call waits for the first one.
func (m *Monitor) Close(ctx context.Context) error {
	m.closeOnce.Do(func() {
		m.mu.Lock()
		m.closed = true
		if m.status.Monitored {
			m.unsubscribe()
		}
		m.status.Monitored = false
		m.mu.Unlock()
		m.cancel()
		go m.shutDown()
	})
	select {
	case <-m.closeDone:
		return nil
	case <-ctx.Done():
	}
	select { // both may be ready
	case <-m.closeDone:
		return nil
	default:
	}
	m.cancelObservers()
	return fmt.Errorf("health: close: an observer, a check or a connect function did not return in time: %w", context.Cause(ctx))
}

// shutDown takes the turn and never returns it, so no probe follows.
func (m *Monitor) shutDown() {
	defer close(m.closeDone)
	defer m.cancelObservers()
	m.turn <- struct{}{}
	m.prober.closeKept()
	m.publish(m.machine.stop(), recoveryPlan{}, ProbeResult{}, nil)
	m.hub.close()
	m.background.Wait()
}

// String returns a description of the monitor.
func (m *Monitor) String() string { return "health.Monitor of " + m.db.Target() }

// Format implements fmt.Formatter. It prints m.String() for every verb.
func (m *Monitor) Format(s fmt.State, _ rune) { _, _ = fmt.Fprint(s, m.String()) }

// Status returns the current status. It does not probe.
func (m *Monitor) Status() Status {
	m.mu.Lock()
	s := m.status
	m.mu.Unlock()
	s.Initialized = m.db.IsInitialized()
	s.Pool = m.db.Stats().Pool
	if topology := m.db.Topology(); topology.Kind != pgfx.TopologyUnknown {
		s.Topology = &topology
	}
	s.DroppedTransitions = m.hub.dropped()
	return s
}

// IsHealthy reports whether the database is usable: its state is Up, Degraded or ReadOnly. If the monitor does not probe by
// itself (Status.Monitored) and no ProbeNow has decided either, it reports the DB's own IsHealthy.
func (m *Monitor) IsHealthy() bool {
	m.mu.Lock()
	state, monitored := m.status.State, m.status.Monitored
	m.mu.Unlock()
	if !monitored && state == Starting {
		return m.db.IsHealthy()
	}
	return state.Usable()
}

// AwaitUp waits until the database is usable, as reported by IsHealthy. It returns at once if it is. Use it in loops in the
// background that need the database. It does not wait for setup steps; pgfx.DB.AwaitReady does.
//
// If ctx ends first, the error matches the cause of ctx and pgfx.ErrUnavailable, and wraps why the database is down. After Close
// the error is [ErrClosed].
func (m *Monitor) AwaitUp(ctx context.Context) error {
	transitions, cancel := m.Subscribe()
	defer cancel()
	for !m.IsHealthy() {
		select {
		case _, open := <-transitions:
			if !open {
				return ErrClosed
			}
		case <-ctx.Done():
			s := m.Status()
			outage := &pgfx.UnavailableError{Cause: s.Err, Since: s.Since}
			if outage.Cause == nil {
				outage.Cause = fmt.Errorf("the state is %s", s.State)
			}
			return fmt.Errorf("health: await up: %w: %w", outage, context.Cause(ctx))
		}
	}
	return nil
}

// IsInitialized reports whether the database has been reached and its setup steps have run.
func (m *Monitor) IsInitialized() bool { return m.db.IsInitialized() }

// Subscribe returns a channel that receives each transition from now on. The channel buffers 16 transitions. A slow subscriber
// loses the oldest ones, which Status.DroppedTransitions counts; it never delays the monitor.
//
// cancel ends the subscription and closes the channel; it may be called more than once. Close closes the channel too, after
// the transition to Stopped.
func (m *Monitor) Subscribe() (transitions <-chan Transition, cancel func()) {
	return m.hub.subscribe(subscriberBuffer)
}

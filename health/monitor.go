package health

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// ErrStopped is returned by a [Monitor] that was stopped.
var ErrStopped = errors.New("health: the monitor is stopped")

// Monitor watches one database. It is made by [NewMonitor], or by [New] with Fx, started once and stopped once. All its
// methods are safe for concurrent use.
type Monitor struct {
	db        *pgfx.DB
	logger    *zap.Logger
	interval  time.Duration // 0: no looks but those that are asked for
	observers []Observer
	observed  <-chan Transition
	checks    []*checkState
	hub       hub

	// turn is held by whoever looks; it guards what follows.
	turn               chan struct{}
	prober             *prober
	poolTracker        poolTracker
	machine            stateMachine
	backoff            backoff
	needNewConn        bool           // the next look opens a connection
	otherServerResetAt time.Time      // when traffic's evidence alone last replaced the pool
	stalled            stalledBackoff // only run's

	rescheduled     chan struct{}   // the schedule has changed
	lifetime        context.Context //nolint:containedctx // ends the looks when the monitor stops
	cancel          context.CancelFunc
	observerCtx     context.Context //nolint:containedctx // ends the observers' work when a stop runs out of time
	cancelObservers context.CancelFunc
	background      sync.WaitGroup
	firstProbe      chan struct{} // closed after the first look of run
	closeOnce       sync.Once
	closeDone       chan struct{}

	mu       sync.Mutex // guards what follows
	running  bool
	closed   bool
	status   Status
	schedule schedule
	signals  signal // since the last look began

	unsubscribe func() // from the pool's failures; set by Start
}

// NewMonitor makes a monitor for db, which may be started already or later. It opens no connection and starts no goroutine.
func NewMonitor(db *pgfx.DB, opts ...Option) (*Monitor, error) {
	if db == nil {
		return nil, errors.New("health: no database to monitor; pass what pgfx.Open returned")
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
		status: Status{Database: db.Name(), State: Starting, Since: time.Now(), ThroughPool: db.Config().Health.ThroughPool},
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

// Start begins to watch. Call it after the DB's Start. When that has reached the database, Start waits for the first look,
// so that whatever starts next finds a verdict; else it returns at once. It keeps nothing of ctx, and that ctx ends or the
// look fails is no error. A second Start does nothing; after Stop it returns [ErrStopped].
func (m *Monitor) Start(ctx context.Context) error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return ErrStopped
	}
	again := m.running
	if !again {
		m.running = true
		m.status.Monitored = m.interval > 0
		if m.interval > 0 {
			m.background.Go(m.run)
			m.unsubscribe = m.db.Internals().SubscribeFailures(m.recordFailure)
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

// Stop ends the watching, closes the monitor's connection, tells subscribers that the state is [Stopped] and ends their
// channels. It leaves the gate as it is, for the DB is closed next. At ctx's end it gives up waiting for an observer or a
// check that hangs and returns an error. Stop may be called any number of times, before Start too.
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

// shutDown takes the last turn, and never gives it back.
func (m *Monitor) shutDown() {
	defer close(m.closeDone)
	defer m.cancelObservers()
	m.turn <- struct{}{}
	m.prober.closeKept()
	m.publish(m.machine.stop(), recoveryPlan{}, ProbeResult{}, nil)
	m.hub.close()
	m.background.Wait()
}

// run looks until the monitor is stopped.
func (m *Monitor) run() {
	for first := true; ; first = false {
		_, err := m.probeUnlessRecent(m.lifetime, time.Time{})
		if first {
			close(m.firstProbe)
		}
		if errors.Is(err, ErrStopped) || !m.waitForDue() {
			return
		}
	}
}

// ProbeNow looks at the database now and returns what is known then. Its error is the one that the look met, also when one
// failure alone is no verdict; nil when the database answered. Callers at the same time share a look. It works without a
// running monitor too (before Start, or with Config.Health.Interval off), but then it leaves the gate alone, because nobody
// would open it again. ctx bounds the waiting, Config.Health.Timeout the look; a look that ctx cuts short counts for
// nothing. After Stop the error is [ErrStopped].
func (m *Monitor) ProbeNow(ctx context.Context) (Status, error) {
	look, err := m.probeUnlessRecent(ctx, time.Now())
	if err != nil {
		return m.Status(), err
	}
	m.wake()
	return m.Status(), look.Err
}

// lookOnce takes the turn and looks, unless a look that began after notBefore has been made meanwhile. Its error says why
// there was no look.
func (m *Monitor) probeUnlessRecent(ctx context.Context, notBefore time.Time) (ProbeResult, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(m.lifetime, cancel)()
	select {
	case <-m.lifetime.Done():
		return ProbeResult{}, ErrStopped
	default:
	}
	select {
	case m.turn <- struct{}{}:
		defer func() { <-m.turn }()
	case <-ctx.Done():
		return ProbeResult{}, m.interrupted(ctx)
	}
	m.mu.Lock()
	last := m.status.LastProbe
	m.mu.Unlock()
	if !notBefore.IsZero() && last.At.After(notBefore) {
		return last, nil
	}
	look, ok := m.probeOnce(ctx)
	if !ok {
		return ProbeResult{}, m.interrupted(ctx)
	}
	return look, nil
}

func (m *Monitor) interrupted(ctx context.Context) error {
	if m.lifetime.Err() != nil {
		return ErrStopped
	}
	return fmt.Errorf("health: check: %w", context.Cause(ctx))
}

// look looks, judges, acts and tells. It returns false when ctx ended first. The caller holds the turn.
func (m *Monitor) probeOnce(ctx context.Context) (ProbeResult, bool) {
	m.mu.Lock()
	monitored, heard, known := m.status.Monitored, m.signals, m.status.Err
	m.signals = 0
	m.mu.Unlock()
	before, began := m.db.Stats(), time.Now()
	seen := m.prober.probe(ctx, m.needNewConn || heard&(connectFailed|writeRefused) != 0)
	if !monitored { // a connection that nobody watches is not worth its slot
		m.prober.closeKept()
	}
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		<-ctx.Done() // a dial that ran into it may be back before ctx's own timer has fired
	}
	if ctx.Err() != nil {
		m.setSchedule(began, confirmationDelay)
		return ProbeResult{}, false
	}
	now, stats := time.Now(), m.db.Stats()
	look := ProbeResult{At: began, Took: now.Sub(began), Latency: seen.latency, Fresh: seen.newConn, Cause: seen.cause, Err: seen.err}
	found := observation{
		cause: seen.cause, server: seen.server.identity(), readOnly: seen.server.ReadOnly, slots: seen.server.slots(),
		suspectPool:       seen.suspectPool || m.poolOnOtherServer(now, heard, seen),
		existingConnsWork: seen.keptWorks || succeeded(stats) > succeeded(before),
	}
	m.poolTracker.update(now, stats, &found)
	v := m.machine.decide(found)
	m.needNewConn = v.demoted || v.cause != "" || seen.err != nil
	p := planFor(v)
	if !monitored || errors.Is(m.db.Internals().Gate().Err(), pgfx.ErrNotStarted) { // the first opening is the DB's own
		p.openGate, p.closeGate = false, false
	}
	p.apply(m.db, cmp.Or(seen.err, known)) // a good look that does not yet undo a bad one has none
	if v.suspectPool {
		m.abandonStalled(ctx)
	}
	m.publish(v, p, look, &seen.server)
	m.setSchedule(began, m.backoff.next(v, m.poolTracker.isFull(), rand.Float64()))
	return look, true
}

// strayedAgain is the least time between two replacements of the pool for writes that were refused: an application that
// writes in read-only transactions gets the same error.
const otherServerResetGap = time.Minute

// strayed reports whether the pool seems to be connected to another server than the monitor: its statements meet a
// read-only server while the monitor sees a writer.
func (m *Monitor) poolOnOtherServer(now time.Time, heard signal, seen probeOutcome) bool {
	if heard&writeRefused == 0 || seen.err != nil || seen.server.ReadOnly || now.Sub(m.otherServerResetAt) < otherServerResetGap {
		return false
	}
	m.otherServerResetAt = now
	return true
}

func succeeded(stats pgfx.Stats) int64 { return stats.Statements.Count - stats.Statements.Errors }

// record notes a verdict and tells it when it is news. The caller holds the turn.
func (m *Monitor) publish(v decision, p recoveryPlan, look ProbeResult, server *Server) {
	m.mu.Lock()
	now := time.Now()
	t := Transition{
		Database: m.status.Database, From: v.from, To: v.to, At: now, Lasted: now.Sub(m.status.Since),
		Cause: v.cause, Reasons: v.reasons, Reset: p.reset,
	}
	if v.cause != "" {
		t.Err = look.Err
		if t.Err == nil { // a good look that does not yet undo a bad one
			t.Err = m.status.Err
		}
	}
	s := &m.status
	s.State, s.Cause, s.Reasons, s.Err, s.Demoted = v.to, v.cause, v.reasons, t.Err, v.demoted
	if v.from != v.to {
		s.Since = now
	}
	if !look.At.IsZero() {
		s.LastProbe = look
		if look.Err == nil {
			s.LastGood, s.Server = look.At, *server
		}
	}
	if p.reset != "" {
		s.Resets++
		s.LastReset = p.reset
	}
	if v.changed() {
		s.History = appendHistory(s.History, t)
	}
	m.mu.Unlock()

	switch {
	case v.changed():
		var holders []pgfx.Lease
		if len(v.reasons) > 0 && (v.reasons[0] == ReasonPoolExhausted || v.reasons[0] == ReasonPoolStuck) {
			holders = oldest(m.db.Leases())
		}
		logTransition(m.logger, t, p, holders)
		m.hub.publish(t)
	case p.reset != "":
		m.logger.Warn("pool replaced", zap.String("reset", string(p.reset)))
	}
}

// oldest returns the leases that a log line names.
func oldest(leases []pgfx.Lease) []pgfx.Lease { return leases[:min(len(leases), 3)] }

// callObservers tells the observers until the subscription ends.
func (m *Monitor) callObservers() {
	for t := range m.observed {
		for _, observer := range m.observers {
			callObserver(m.observerCtx, m.logger, observer, t)
		}
	}
}

// Status returns what is known now. It does not look.
func (m *Monitor) Status() Status {
	m.mu.Lock()
	s := m.status
	m.mu.Unlock()
	s.Initialized = m.db.IsInitialized()
	s.Pool = m.db.Stats().Pool
	s.DroppedTransitions = m.hub.dropped()
	return s
}

// IsHealthy reports whether the database can be used, as far as is known: the state is Up, Degraded or ReadOnly. Without
// looks of its own (see Status.Monitored) it is what the DB knows from its start, unless a ProbeNow has found otherwise.
func (m *Monitor) IsHealthy() bool {
	m.mu.Lock()
	state, monitored := m.status.State, m.status.Monitored
	m.mu.Unlock()
	if !monitored && state == Starting {
		return m.db.IsHealthy()
	}
	return state.Usable()
}

// IsInitialized reports whether the database has been reached and the setup has run.
func (m *Monitor) IsInitialized() bool { return m.db.IsInitialized() }

// Subscribe returns a channel of transitions from now on and a function that ends the subscription and closes the
// channel. The channel holds 16 transitions; a subscriber that falls behind loses the oldest (Status.DroppedTransitions counts them)
// and never holds up the monitor. Stop closes the channel after the transition to Stopped. cancel may be called more than
// once.
func (m *Monitor) Subscribe() (transitions <-chan Transition, cancel func()) {
	return m.hub.subscribe(subscriberBuffer)
}

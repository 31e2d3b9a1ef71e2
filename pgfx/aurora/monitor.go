package aurora

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

const (
	// alertFor is how long the monitor polls the writer often after a sign of trouble.
	alertFor = 3 * time.Second
	// silence is how long the writer may take to answer, while there are signs of trouble, before the others are polled too.
	silence = 300 * time.Millisecond
	// troubleFor is how long the monitor polls at the TroubleInterval. Then it polls slowFactor times less often.
	troubleFor = 30 * time.Second
	slowFactor = 10
	// closeTimeout bounds closing a connection of the monitor.
	closeTimeout = 100 * time.Millisecond
)

// monitor reads the topology of a cluster and acts on it. Its goroutine alone uses the fields; each poller has a goroutine too.
type monitor struct {
	cluster *cluster
	member  *member // whose credentials open the connections
	logger  *zap.Logger
	config  Config
	kind    pgfx.TopologyKind

	answers chan answer
	pollers map[target]*poller
	running sync.WaitGroup

	lastPoke   time.Time
	unanswered map[target]time.Time // when the poller was poked
	alertUntil time.Time
	lostAt     time.Time // when the writer was lost; zero while there is one
	warned     map[string]bool
}

func newMonitor(c *cluster, m *member) *monitor {
	return &monitor{
		cluster: c, member: m, logger: m.logger, config: m.config, kind: c.kind,
		answers: make(chan answer), pollers: make(map[target]*poller), unanswered: make(map[target]time.Time), warned: make(map[string]bool),
	}
}

// run monitors the cluster until ctx ends.
func (m *monitor) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer m.running.Wait()
	defer cancel()
	for {
		next := m.poll(ctx, time.Now())
		timer := time.NewTimer(time.Until(next))
		select {
		case a := <-m.answers:
			m.process(a, time.Now())
		case <-m.cluster.wake:
			m.alertUntil = time.Now().Add(alertFor)
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// poll pokes the pollers if that is due, and returns when it is due next.
func (m *monitor) poll(ctx context.Context, now time.Time) time.Time {
	polled, interval := m.plan(now)
	for id, p := range m.pollers {
		if _, stays := polled[id]; !stays {
			p.stop()
			delete(m.pollers, id)
			delete(m.unanswered, id)
		}
	}
	due := !now.Before(m.lastPoke.Add(interval))
	for id, address := range polled {
		p := m.pollers[id]
		switch {
		case p == nil:
			m.start(ctx, id, address)
		case due:
			p.poke()
		default:
			continue
		}
		if m.unanswered[id].IsZero() {
			m.unanswered[id] = now
		}
	}
	if due {
		m.lastPoke = now
	}
	return m.lastPoke.Add(interval)
}

// plan returns the targets to poll, with their addresses, and the interval.
func (m *monitor) plan(now time.Time) (polled map[target]pgfx.Address, interval time.Duration) {
	m.cluster.mu.Lock()
	defer m.cluster.mu.Unlock()
	polled = make(map[target]pgfx.Address)
	if m.planSwitchover(polled, now) {
		return polled, createdInterval
	}
	s := m.cluster.state
	alert := now.Before(m.alertUntil)
	source := s.source()
	poked := m.unanswered[targetOf(source)]
	trouble := !s.settled || alert && !poked.IsZero() && now.Sub(poked) > silence
	m.noteTrouble(trouble, now)
	all := trouble || m.cluster.usesReadersLocked()
	for _, instance := range s.topology.Instances {
		if instance.Host != "" && (all || instance.ID == source) {
			polled[targetOf(instance.ID)] = addressOf(instance)
		}
	}
	if trouble || source == "" { // the DB's own address may lead to an instance that is new
		polled[targetOf("")] = m.member.addresses[0]
	}
	interval = m.interval(trouble, alert, now)
	if bg := m.cluster.bg; bg != nil {
		interval = min(interval, bg.interval(m.config))
	}
	return polled, interval
}

func (m *monitor) interval(trouble, alert bool, now time.Time) time.Duration {
	switch {
	case trouble && (now.Sub(m.lostAt) > troubleFor || m.kind == pgfx.TopologyInstance): // no other instance could take over
		return m.config.TroubleInterval * slowFactor
	case trouble || alert:
		return m.config.TroubleInterval
	default:
		return m.config.Interval
	}
}

// noteTrouble logs that the writer is lost, or is back.
func (m *monitor) noteTrouble(trouble bool, now time.Time) {
	writer := m.cluster.state.writerID()
	switch {
	case trouble && m.lostAt.IsZero():
		m.lostAt = now
		m.cluster.state.topology.Err = "the writer does not confirm that it writes"
		m.logger.Warn("writer not confirmed; polling all instances", zap.String("writer", writer))
		m.cluster.publishLocked(now)
	case !trouble && !m.lostAt.IsZero():
		m.logger.Info("writer confirmed", zap.String("writer", writer), zap.Duration("took", now.Sub(m.lostAt)))
		m.lostAt = time.Time{}
	}
}

// start starts a poller.
func (m *monitor) start(ctx context.Context, to target, address pgfx.Address) {
	ctx, stop := context.WithCancel(ctx)
	p := &poller{
		target: to, answers: m.answers, stop: stop,
		read: func(ctx context.Context, db querier) (view, error) {
			return m.member.read(ctx, db, m.kind, m.cluster.blueGreen)
		},
		connect: func(ctx context.Context) (*pgx.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, m.config.Timeout)
			defer cancel()
			if to.kind == targetRouted {
				return m.member.db.Connect(ctx, "topology")
			}
			return m.member.db.Internals().ConnectTo(ctx, "topology", address)
		},
	}
	m.pollers[to] = p
	m.running.Go(func() { p.run(ctx) })
}

// process applies an answer, publishes what it changes and logs that.
func (m *monitor) process(a answer, now time.Time) {
	delete(m.unanswered, a.target)
	m.cluster.mu.Lock()
	defer m.cluster.mu.Unlock()
	if m.processSwitchover(a, now) {
		return
	}
	s := m.cluster.state
	before, members := s.writerID(), idsOf(s.topology)
	c := s.apply(a, now)
	if a.err == nil || c.members {
		m.cluster.publishLocked(now)
	}
	switch {
	case c.writer:
		m.alertUntil = now.Add(alertFor)
		m.logger.Warn("writer changed", zap.String("from", before), zap.String("to", s.writerID()), zap.Int("changes", s.topology.Changes))
	case c.members && !slices.Equal(members, idsOf(s.topology)):
		m.logger.Info("instances changed", zap.String("writer", s.writerID()), zap.Strings("instances", idsOf(s.topology)))
	}
	switch {
	case c.wrong:
		m.warnOnce("instance endpoint leads to another instance; connections follow DNS: set aurora.Config.InstancePattern",
			a.polled, zap.String("answered", a.view.self))
	case a.err != nil && a.polled != "" && a.polled == before && !s.reached[a.polled]:
		m.warnOnce("instance endpoint cannot be reached; connections follow DNS: set aurora.Config.InstancePattern, or open the network",
			a.polled, zap.Error(a.err))
	}
}

// warnOnce logs a warning about an instance once.
func (m *monitor) warnOnce(message, instance string, field zap.Field) {
	if m.warned[message+instance] {
		return
	}
	m.warned[message+instance] = true
	m.logger.Warn(message, zap.String("instance", instance), field)
}

package aurora

import (
	"context"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// cluster is what the DBs of one cluster share. One of them monitors it for all.
type cluster struct {
	kind pgfx.TopologyKind
	// blueGreen reports whether the cluster describes Blue/Green deployments.
	blueGreen bool
	turn      chan struct{} // a lock: the goroutine that holds it monitors the cluster
	wake      chan struct{} // something may have happened

	mu      sync.Mutex
	members []*member
	state   *state
	bg      *deployment // nil if there is none
}

// clusters are the clusters of the process.
var clusters struct { //nolint:gochecknoglobals // one monitor for all DBs of a cluster in the process
	mu   sync.Mutex
	list []*cluster
}

// join adds a DB to its cluster and starts the goroutine that monitors the cluster, or will once the present one ends.
//
// Host names do not identify a cluster. The system identifier does, together with an instance: a cluster that was restored from a
// snapshot has the system identifier of the original.
func join(m *member, found detection, first view) {
	clusters.mu.Lock()
	defer clusters.mu.Unlock()
	i := slices.IndexFunc(clusters.list, func(c *cluster) bool { return c.is(found, first) })
	if i < 0 {
		i = len(clusters.list)
		clusters.list = append(clusters.list, &cluster{
			kind: found.kind, blueGreen: found.blueGreen, turn: make(chan struct{}, 1), wake: make(chan struct{}, 1),
			state: newState(found.kind, found.cluster),
		})
	}
	c := clusters.list[i]
	c.add(m, first)
	internals := m.db.Internals()
	internals.RouteConnections(m.route)
	unsubscribe := internals.SubscribeFailures(func(err error) {
		if signalsTrouble(err) {
			c.signal()
		}
	})
	internals.Go(func(ctx context.Context) {
		defer unsubscribe()
		defer c.leave(m)
		select {
		case c.turn <- struct{}{}:
			defer func() { <-c.turn }()
			newMonitor(c, m).run(ctx)
		case <-ctx.Done():
		}
	})
}

// add adds a DB with its first view of the cluster.
func (c *cluster) add(m *member, first view) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.members = append(c.members, m)
	c.state.apply(answer{view: first}, time.Now())
	c.publishLocked(time.Now())
	t := c.state.topology
	m.logger.Info("topology detected", zap.String("kind", string(t.Kind)), zap.String("cluster", t.Cluster),
		zap.String("writer", c.state.writerID()), zap.Strings("instances", idsOf(t)))
	c.signal() // the monitor has to reach the readers now, if it is the first DB that uses them
}

// is reports whether a DB belongs to the cluster.
func (c *cluster) is(found detection, first view) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.state.topology
	return found.cluster != "" && known.Cluster == found.cluster && c.kind == found.kind &&
		slices.ContainsFunc(first.instances, func(i pgfx.Instance) bool { return slices.Contains(idsOf(known), i.ID) })
}

func (c *cluster) leave(m *member) {
	clusters.mu.Lock()
	defer clusters.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.members = slices.DeleteFunc(c.members, func(other *member) bool { return other == m })
	if len(c.members) == 0 {
		clusters.list = slices.DeleteFunc(clusters.list, func(other *cluster) bool { return other == c })
	}
}

// signal makes the monitor poll the writer soon.
func (c *cluster) signal() {
	select {
	case c.wake <- struct{}{}:
	default: // a signal is pending
	}
}

// publishLocked passes the state on to the DBs.
func (c *cluster) publishLocked(now time.Time) {
	for _, m := range c.members {
		r := routesOf(c.state, m.config, &m.next)
		m.routes.Store(&r)
		m.substitutes.Store(c.substitutesLocked(m))
	}
	c.state.topology.BlueGreen = c.blueGreenLocked(now)
	for _, m := range c.members {
		m.db.Internals().PublishTopology(c.state.topology)
	}
}

// substitutesLocked returns the routes of a switchover for a DB, nil if there is none.
func (c *cluster) substitutesLocked(m *member) *map[string][]pgfx.Address {
	if c.bg == nil || !c.bg.isActive() {
		return nil
	}
	list := make(map[string][]pgfx.Address)
	for _, host := range m.hosts() {
		list[host] = c.bg.route(host)
	}
	return &list
}

// blueGreenLocked describes the deployment.
func (c *cluster) blueGreenLocked(now time.Time) *pgfx.BlueGreen {
	if c.bg == nil || c.bg.phase == phaseNone {
		return nil
	}
	return &pgfx.BlueGreen{
		Phase: c.bg.phase.String(), Since: c.bg.since, Substituted: c.bg.isActive(),
		Switching: c.bg.isSwitching(c.hostsLocked(), now, c.members[0].config.SwitchTimeout),
	}
}

// hostsLocked returns the hosts that a Blue/Green switchover moves, of all DBs.
func (c *cluster) hostsLocked() []string {
	var list []string
	for _, m := range c.members {
		list = append(list, m.hosts()...)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// usesReadersLocked reports whether a DB of the cluster connects to readers.
func (c *cluster) usesReadersLocked() bool {
	return slices.ContainsFunc(c.members, (*member).usesReaders)
}

func idsOf(t pgfx.Topology) []string {
	ids := make([]string, len(t.Instances))
	for i, instance := range t.Instances {
		ids[i] = instance.ID
	}
	return ids
}

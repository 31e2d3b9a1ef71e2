package aurora

import (
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

const (
	// createdInterval is the interval while a Blue/Green deployment exists, and while connections are substituted.
	createdInterval = time.Second
	// substituteFor bounds how long connections use the addresses of the green side. DNS should be up to date after a minute.
	substituteFor = 10 * time.Minute
)

// planSwitchover adds the targets of a Blue/Green deployment. It returns true if there are no others, because connections are
// substituted: the cluster's own endpoints may lead to either side. The caller must hold the cluster's lock.
func (m *monitor) planSwitchover(polled map[target]pgfx.Address, now time.Time) bool {
	bg := m.cluster.bg
	if bg == nil || bg.done || bg.phase == phaseNone {
		return false
	}
	hosts := m.cluster.hostsLocked()
	m.endLate(bg, hosts, now)
	for _, host := range hosts {
		if green := bg.greenOf(host); green != "" && (!bg.isActive() || bg.known[green] == "") {
			polled[target{targetGreen, green}] = pgfx.Address{Host: green}
		}
	}
	if !bg.isActive() {
		return false
	}
	polled[target{kind: targetRouted}] = pgfx.Address{}
	for _, member := range m.cluster.members {
		for _, address := range member.addresses {
			if slices.Contains(hosts, address.Host) && !bg.moved[address.Host] {
				polled[target{targetDNS, address.Host}] = address
			}
		}
	}
	return true
}

// endLate ends waiting and substituting that have taken too long.
func (m *monitor) endLate(bg *deployment, hosts []string, now time.Time) {
	current := m.cluster.state.topology.BlueGreen
	if current != nil && current.Switching && !bg.isSwitching(hosts, now, m.config.SwitchTimeout) {
		m.logger.Warn("switchover takes too long; callers no longer wait", zap.Duration("limit", m.config.SwitchTimeout))
		m.cluster.publishLocked(now)
	}
	if bg.isActive() && now.Sub(bg.since) > substituteFor {
		bg.done = true
		m.logger.Warn("DNS still leads to the blue side; connections follow it again", zap.Duration("after", substituteFor))
		m.cluster.publishLocked(now)
	}
}

// processSwitchover takes into account what an answer reports about a Blue/Green deployment. It returns true if the answer has no
// other use. The caller must hold the cluster's lock.
func (m *monitor) processSwitchover(a answer, now time.Time) bool {
	c := m.cluster
	if len(a.view.blueGreen) > 0 && (c.bg == nil || c.bg.done && isNew(a.view.blueGreen)) {
		c.bg = newDeployment()
	}
	if c.bg == nil {
		return false
	}
	if a.err == nil {
		m.applySwitchover(a, now)
	}
	if a.target.kind == targetGreen || a.target.kind == targetDNS {
		c.publishLocked(now)
		return true
	}
	// An answer of the blue side may arrive after the switchover.
	return c.bg.isActive() && a.target.kind != targetRouted
}

// applySwitchover applies an answer to the deployment.
func (m *monitor) applySwitchover(a answer, now time.Time) {
	bg := m.cluster.bg
	switch a.target.kind {
	case targetGreen:
		bg.known[a.target.name] = a.address
		m.report(roleGreen, a, now)
	case targetRouted:
		m.report(roleGreen, a, now)
	case targetDNS:
		if bg.resolved(a.target.name, a.address, m.cluster.hostsLocked(), now) {
			m.logger.Info("switchover finished", zap.String("timeline", bg.summary()))
		}
	case targetOwn, targetInstance:
		if bg.isActive() { // the answer may be from before the switchover
			return
		}
		if bg.phase < phasePost {
			bg.blues[a.address] = true
		}
		m.report(roleBlue, a, now)
	}
}

// isNew reports whether the rows describe a deployment that has not been switched over.
func isNew(rows []blueGreenRow) bool {
	for _, row := range rows {
		if statuses[strings.TrimPrefix(row.Status, "SWITCHOVER_")] == phaseCreated {
			return true
		}
	}
	return false
}

// report applies the rows of an answer, and logs and publishes a new phase.
func (m *monitor) report(side string, a answer, now time.Time) {
	c := m.cluster
	before := c.bg.phase
	rolledBack := c.bg.report(side, a.view.blueGreen, now)
	switch {
	case rolledBack:
		m.logger.Warn("switchover rolled back", zap.Stringer("from", before), zap.String("timeline", c.bg.summary()))
		c.bg.events = nil
	case c.bg.phase != before:
		m.logger.Info("Blue/Green deployment", zap.Stringer("phase", c.bg.phase), zap.Stringer("from", before))
	default:
		return
	}
	if before < phasePost && c.bg.isActive() { // the instances of the cluster are others from now on
		changes := c.state.topology.Changes
		c.state = newState(c.kind, c.state.topology.Cluster)
		c.state.topology.Changes, c.state.topology.WriterSince = changes+1, now
	}
	c.publishLocked(now)
}

package health

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// stalledAfter is how long statements must have been waiting, with no statement of the pool succeeding, before the monitor
// probes.
const stalledAfter = 250 * time.Millisecond

// stalledBackoff spaces out the probes that stalled statements cause. A slow statement that runs alone cannot be
// distinguished from a stalled one.
type stalledBackoff struct {
	gap  time.Duration
	next time.Time
}

// isDue reports whether stalled statements are a reason to probe now.
func (b *stalledBackoff) isDue(now time.Time, stalled bool) bool {
	if !stalled {
		*b = stalledBackoff{}
		return false
	}
	if now.Before(b.next) {
		return false
	}
	b.gap = max(2*b.gap, stalledAfter)
	b.next = now.Add(b.gap)
	return true
}

// suspectsPeriod is how long after a reset the statements on connections from before it are a reason to probe.
const suspectsPeriod = 30 * time.Second

// abandonDead abandons the statements on connections from before the last suspect reset whose backends the server reports as idle.
// Either the server never received the statement: the backend has been idle since before it was sent. Or the response is lost:
// the backend has been idle for a while, and no byte has arrived here.
//
// A statement that the server executes is left alone. So is one that cannot be checked: through a pooler, which invents process
// IDs, or of another role. A statement that waits for a lock is executed when the lock is released, and the next check shows
// whether its response is lost.
func (m *Monitor) abandonDead(ctx context.Context) {
	running := m.runningOnSuspects()
	if len(running) == 0 {
		return
	}
	idle, err := m.prober.kept.idleBackends(ctx, running)
	if err != nil {
		return // the next probe runs into the same error and reports it
	}
	m.db.Internals().Abandon(idle)
}

// hasSuspects reports whether to probe because of statements on connections from before the last suspect reset.
func (m *Monitor) hasSuspects(now time.Time) bool {
	m.mu.Lock()
	recent := now.Sub(m.suspectsBefore) < suspectsPeriod
	m.mu.Unlock()
	return recent && len(m.runningOnSuspects()) > 0
}

// runningOnSuspects returns the statements on connections from before the last suspect reset.
func (m *Monitor) runningOnSuspects() []pgfx.StalledStatement {
	m.mu.Lock()
	since := m.suspectsBefore
	m.mu.Unlock()
	if since.IsZero() {
		return nil
	}
	return m.db.Internals().RunningStatements(stalledAfter, since)
}

// startedAt is when a backend of pg_stat_activity started, as in pgfx.Backend.
const startedAt = `(extract(epoch from a.backend_start) * 1000000)::bigint`

// idleBackends returns the statements whose backends have been idle for longer than the statement has run, or for stalledAfter if
// nothing has arrived. Both times are durations, and the statement's was taken before this query is sent, so the clocks of client
// and server need not agree.
func (s *session) idleBackends(ctx context.Context, running []pgfx.StalledStatement) ([]pgfx.StalledStatement, error) {
	var waits strings.Builder
	for i, statement := range running {
		if i > 0 {
			waits.WriteString(", ")
		}
		fmt.Fprintf(&waits, "(%d, %d, %d, %t)", statement.Backend.PID, statement.Backend.Started, statement.For.Microseconds(), statement.Silent)
	}
	query := `select pg_catalog.string_agg(a.pid::text, ' ') from pg_catalog.pg_stat_activity a` +
		` join (values ` + waits.String() + `) w (pid, started, us, silent) on a.pid = w.pid and w.started in (0, ` + startedAt + `)` +
		` where a.datname = pg_catalog.current_database() and a.usename = session_user` +
		` and a.state in ('idle', 'idle in transaction', 'idle in transaction (aborted)')` +
		` and pg_catalog.clock_timestamp() - a.state_change > case when w.silent` +
		fmt.Sprintf(" then %d else w.us end * interval '1 microsecond'", stalledAfter.Microseconds())
	text, err := s.queryText(ctx, query)
	if err != nil {
		return nil, err
	}
	pids := strings.Fields(text)
	return slices.DeleteFunc(running, func(statement pgfx.StalledStatement) bool {
		return !slices.Contains(pids, strconv.FormatUint(uint64(statement.Backend.PID), 10))
	}), nil
}

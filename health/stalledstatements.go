package health

import (
	"context"
	"fmt"
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

// abandonStalled abandons the stalled statements whose backends the server reports as idle. Either the server never received the
// statement: the backend has been idle since before it was sent. Or the response is lost: the backend has been idle for a while,
// and no byte has arrived here.
//
// Call it only when there is other evidence that the pool's connections are dead, and a new connection works. A statement that
// the server executes is left alone. So is one that cannot be checked: through a pooler, which invents process IDs, or of
// another role.
func (m *Monitor) abandonStalled(ctx context.Context) {
	stalled := m.db.Internals().StalledStatements(stalledAfter)
	if len(stalled) == 0 || m.prober.kept == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, m.prober.timeout)
	defer cancel()
	idle, err := m.prober.kept.idleBackends(ctx, stalled)
	if err != nil {
		return // the next probe runs into the same error and reports it
	}
	m.db.Internals().Abandon(idle)
}

// idleBackends returns the statements whose backends have been idle for longer than the statement has run, or for stalledAfter if
// nothing has arrived. Both times are durations, and the statement's was taken before this query is sent, so the clocks of client
// and server need not agree.
func (s *session) idleBackends(ctx context.Context, stalled []pgfx.StalledStatement) ([]pgfx.StalledStatement, error) {
	var waits strings.Builder
	for i, statement := range stalled {
		if i > 0 {
			waits.WriteString(", ")
		}
		fmt.Fprintf(&waits, "(%d, %d, %t)", statement.PID, statement.For.Microseconds(), statement.Silent)
	}
	query := `select pg_catalog.string_agg(a.pid::text, ' ') from pg_catalog.pg_stat_activity a` +
		` join (values ` + waits.String() + `) w (pid, us, silent) on a.pid = w.pid` +
		` where a.datname = pg_catalog.current_database() and a.usename = current_user` +
		` and a.state in ('idle', 'idle in transaction')` +
		` and pg_catalog.clock_timestamp() - a.state_change > case when w.silent` +
		fmt.Sprintf(" then %d else w.us end * interval '1 microsecond'", stalledAfter.Microseconds())
	if err := s.send(ctx, query); err != nil {
		return nil, err
	}
	row, err := s.receive(ctx)
	if err != nil {
		return nil, err
	}
	if len(row) != 1 {
		return nil, fmt.Errorf("the server returned %d columns, expected 1", len(row))
	}
	pids := strings.Fields(row[0])
	var idle []pgfx.StalledStatement
	for _, statement := range stalled {
		for _, pid := range pids {
			if pid == strconv.FormatUint(uint64(statement.PID), 10) {
				idle = append(idle, statement)
			}
		}
	}
	return idle, nil
}

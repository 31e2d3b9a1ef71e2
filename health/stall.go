package health

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

const (
	// stallTick is how often the monitor asks the pool, and not the database, whether its traffic has come to a stop.
	stalledCheckInterval = 200 * time.Millisecond
	// stallAfter is how long statements must wait, and no statement succeed, before that is worth a look.
	stalledAfter = 250 * time.Millisecond
)

// stallWatch notices that traffic has come to a stop. A slow statement that runs alone looks the same, so that the looks
// which it causes get rarer. The time is given to it.
type stalledBackoff struct {
	gap  time.Duration
	next time.Time
}

// see takes in whether there are stalled statements and reports whether to look.
func (w *stalledBackoff) isDue(now time.Time, stalled bool) bool {
	if !stalled {
		*w = stalledBackoff{}
		return false
	}
	if now.Before(w.next) {
		return false
	}
	w.gap = max(2*w.gap, stalledAfter)
	w.next = now.Add(w.gap)
	return true
}

// abandonUnheard gives up the statements that wait on connections which the server holds to be idle: it has never got them,
// when it has been idle since before they were sent, or its answer is lost, when it has been idle for a while and not a byte
// has arrived here. It is called when there is other evidence that connections are dead, with a new
// connection that works. A statement that the server is at work on is left alone, and so is whatever can't be told: a
// connection through a pooler, which invents the process IDs, or one of another role.
func (m *Monitor) abandonStalled(ctx context.Context) {
	stalled := m.db.Internals().StalledStatements(stalledAfter)
	if len(stalled) == 0 || m.prober.kept == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, m.prober.timeout)
	defer cancel()
	idle, err := m.prober.kept.idleBackends(ctx, stalled)
	if err != nil {
		return // the next look meets it again
	}
	m.db.Internals().Abandon(idle)
}

// idle returns the statements whose backends are idle and have been for longer than the statements have run, or for
// stallAfter where nothing has arrived. The statement's time is taken before the question is sent and compared to the server's
// own clock, so that clocks need not agree.
func (s *session) idleBackends(ctx context.Context, stalled []pgfx.StalledStatement) ([]pgfx.StalledStatement, error) {
	var waits strings.Builder
	for i, statement := range stalled {
		if i > 0 {
			waits.WriteString(", ")
		}
		fmt.Fprintf(&waits, "(%d, %d, %t)", statement.PID, statement.For.Microseconds(), statement.Silent)
	}
	question := `select pg_catalog.string_agg(a.pid::text, ' ') from pg_catalog.pg_stat_activity a` +
		` join (values ` + waits.String() + `) w (pid, us, silent) on a.pid = w.pid` +
		` where a.datname = pg_catalog.current_database() and a.usename = current_user` +
		` and a.state in ('idle', 'idle in transaction')` +
		` and pg_catalog.clock_timestamp() - a.state_change > case when w.silent` +
		fmt.Sprintf(" then %d else w.us end * interval '1 microsecond'", stalledAfter.Microseconds())
	if err := s.send(ctx, question); err != nil {
		return nil, err
	}
	row, err := s.receive(ctx)
	if err != nil {
		return nil, err
	}
	if len(row) != 1 {
		return nil, fmt.Errorf("the answer has %d columns", len(row))
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

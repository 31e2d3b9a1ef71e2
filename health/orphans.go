package health

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

// endOrphans ends the backends of connections that the pool has given up, so their locks are released. If the network is at fault,
// the server would notice only after Timeouts.ClientLost that the client is gone.
//
// It ends only backends of this pool. Process ID and start time are those of a session that the pool opened and whose socket is
// closed. Login user and database must match too. If the login user lacks the privilege, endOrphans logs that once and does nothing
// from then on. Any other error of the server is logged once, and endOrphans tries again less and less often. If the connection is
// lost, the next probe tries again.
func (m *Monitor) endOrphans(ctx context.Context) {
	orphans := m.db.Internals().Orphans()
	if len(orphans) == 0 || !m.mayEndOrphans() {
		return
	}
	ended, err := m.prober.kept.endBackends(ctx, orphans)
	m.mu.Lock()
	firstFailure := m.orphanBackoff.note(time.Now(), sqlstate.Code(err) != "")
	m.mu.Unlock()
	switch {
	case sqlstate.Code(err) == sqlstate.InsufficientPrivilege:
		m.orphansRefused.Store(true)
		m.logger.Warn("cannot end backends of lost connections; they keep their locks until the server notices the loss: "+
			"grant execute on function pg_terminate_backend to the login user", zap.Error(err))
	case err != nil:
		if firstFailure {
			m.logger.Warn("cannot end backends of lost connections; they keep their locks until that works", zap.Error(err))
		}
		return
	case ended > 0:
		m.logger.Warn("ended backends of lost connections", zap.Int("backends", ended))
	}
	m.db.Internals().ForgetOrphans(orphans)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.status.EndedBackends += ended
}

// mayEndOrphans reports whether an attempt to end orphans may succeed and is due.
func (m *Monitor) mayEndOrphans() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.orphansRefused.Load() && m.orphanBackoff.isDue(time.Now())
}

// maxOrphanWait is the longest wait between two attempts to end orphans.
const maxOrphanWait = time.Minute

// orphanBackoff spaces out the attempts to end orphans while the server fails to execute them.
type orphanBackoff struct {
	wait time.Duration // 0 unless the last attempt failed
	next time.Time
}

// note stores the result of an attempt. It reports whether the attempt failed and the one before had not.
func (b *orphanBackoff) note(now time.Time, failed bool) bool {
	if !failed {
		*b = orphanBackoff{}
		return false
	}
	first := b.wait == 0
	b.wait = min(max(2*b.wait, minGap), maxOrphanWait)
	b.next = now.Add(b.wait)
	return first
}

func (b *orphanBackoff) isDue(now time.Time) bool { return !now.Before(b.next) }

// hasOrphans reports whether to probe because of orphans. While the database is not usable, or connecting fails, orphans are no
// reason to probe more often.
func (m *Monitor) hasOrphans() bool {
	m.mu.Lock()
	usable := m.status.State.Usable() && m.status.Cause == ""
	m.mu.Unlock()
	return usable && m.mayEndOrphans() && m.db.Internals().HasOrphans()
}

// endBackends ends those of the backends that still exist and returns their number.
func (s *session) endBackends(ctx context.Context, backends []pgfx.Backend) (int, error) {
	identities := make([]string, len(backends))
	for i, backend := range backends {
		identities[i] = fmt.Sprintf("(%d, %d)", backend.PID, backend.Started)
	}
	// The materialized part comes first, whatever the planner would prefer: the function must not see another row.
	text, err := s.queryText(ctx, `with orphans as materialized (select a.pid from pg_catalog.pg_stat_activity a`+
		` join (values `+strings.Join(identities, ", ")+`) w (pid, started) on a.pid = w.pid and w.started = `+startedAt+
		` where a.datname = pg_catalog.current_database() and a.usename = session_user)`+
		` select pg_catalog.count(*) filter (where pg_catalog.pg_terminate_backend(pid)) from orphans`)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(text)
}

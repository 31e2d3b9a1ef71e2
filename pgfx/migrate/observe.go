package migrate

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// observation is what the server reports about a running statement.
type observation struct {
	blockers []Session
	// wait is what it waits for, such as "Lock: relation", and "" while it works.
	wait string
	// phase, done and total describe the progress of an index that is built.
	phase       string
	done, total int64
}

// watch observes a statement while it runs: it finds out who blocks it, and logs its progress. The first attempt is not
// observed for blockers before its lock_timeout, since most get their locks at once. stop ends the watch and waits for it.
func (r *statementRunner) watch(ctx context.Context, pid uint32, timeout time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	began, done := time.Now(), make(chan struct{})
	file, line := r.file, r.line
	var blocked <-chan time.Time
	if r.attempts > 0 && timeout > 0 {
		blocked = time.After(timeout / 2) //nolint:mnd // half of the wait
	}
	go func() {
		defer close(done)
		progress := time.NewTicker(r.settings.progress)
		defer progress.Stop()
		if blocked != nil {
			r.observer.connect(ctx) // which may take longer than the wait for the lock
		}
		for {
			select {
			case <-blocked:
				if seen := r.observer.observe(ctx, pid); len(seen.blockers) > 0 {
					r.blockers = seen.blockers
				}
			case <-progress.C:
				seen := r.observer.observe(ctx, pid)
				if ctx.Err() == nil {
					r.log.Info("migration statement is still running", append(seen.fields(),
						zap.String("file", file), zap.Int("line", line), zap.Duration("elapsed", time.Since(began)))...)
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() { cancel(); <-done }
}

func (o observation) fields() []zap.Field {
	var fields []zap.Field
	if o.wait != "" {
		fields = append(fields, zap.String("wait", o.wait))
	}
	if len(o.blockers) > 0 {
		fields = append(fields, zap.Stringers("blockers", o.blockers))
	}
	if o.phase != "" {
		fields = append(fields, zap.String("phase", o.phase))
	}
	if o.total > 0 {
		fields = append(fields, zap.Int64("blocks_done", o.done), zap.Int64("blocks_total", o.total))
	}
	return fields
}

// observer observes statements over a separate connection, which it opens when it first needs it. Its errors are not reported,
// because it only completes other messages. It is not safe for concurrent use.
type observer struct {
	db   *pgfx.DB
	conn *pgx.Conn
}

// connect opens the connection, unless it is open.
func (o *observer) connect(ctx context.Context) {
	if o.conn == nil || o.conn.IsClosed() {
		o.conn, _ = o.db.Connect(ctx, "migrate-inspect") // nil after an error
	}
}

func (o *observer) close(ctx context.Context) {
	if o.conn != nil {
		closeSession(ctx, o.conn)
	}
}

// observe returns what the server reports about a session.
func (o *observer) observe(ctx context.Context, pid uint32) (seen observation) {
	if pid == 0 {
		return seen
	}
	if o.connect(ctx); o.conn == nil {
		return seen
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout) // the end of ctx would close the connection
	defer cancel()
	_ = o.conn.QueryRow(ctx, `select coalesce(a.wait_event_type || ': ' || a.wait_event, ''), coalesce(p.phase, ''),
			coalesce(p.blocks_done, 0), coalesce(p.blocks_total, 0)
		from pg_stat_activity a left join pg_stat_progress_create_index p on p.pid = a.pid where a.pid = $1`,
		int32(pid)).Scan(&seen.wait, &seen.phase, &seen.done, &seen.total) //nolint:gosec // a PID
	seen.blockers, _ = sessions(ctx, o.conn, "select "+sessionColumns+` from pg_stat_activity a
		where a.pid = any (pg_blocking_pids($1)) order by 1`, int32(pid)) //nolint:gosec // a PID
	return seen
}

const sessionColumns = `a.pid, coalesce(a.usename, ''), coalesce(a.application_name, ''), coalesce(a.state, 'state not visible'),
	coalesce(extract(epoch from clock_timestamp() - coalesce(a.xact_start, a.backend_start)), 0)::float8`

func sessions(ctx context.Context, conn *pgx.Conn, sql string, args ...any) ([]Session, error) {
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return nil, err //nolint:wrapcheck // the caller wraps it
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (Session, error) { //nolint:wrapcheck // as above
		var s Session
		var age float64
		err := row.Scan(&s.PID, &s.User, &s.Application, &s.State, &age)
		s.Age = time.Duration(age * float64(time.Second))
		return s, err //nolint:wrapcheck // as above
	})
}

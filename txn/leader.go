package txn

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

const (
	leaderTable = "rdsfx_leaders"
	// createLeaderTable creates the table of the terms.
	createLeaderTable = `create table if not exists ` + leaderTable + ` (
			name text primary key,
			epoch bigint not null,
			term uuid not null,
			elected timestamptz not null default now()
		)`

	// leaderLease is how long the server keeps the lock for a leader that doesn't respond.
	leaderLease = 5 * time.Second
	// leaderPoll is the average time between attempts to become the leader.
	leaderPoll = 500 * time.Millisecond
	// leaderCheck and leaderCheckTimeout add up to the time within which a leader notices that it has lost its connection.
	leaderCheck        = 250 * time.Millisecond
	leaderCheckTimeout = 600 * time.Millisecond
)

// ErrNotLeader is returned by a Do with [Fenced] whose leader has been replaced. Nothing is committed.
var ErrNotLeader = errors.New("txn: another process has become the leader since: end this work")

// Leader is one term of this process as the leader, from its election to the next. [Manager.Lead] passes it to its function. It is
// safe for concurrent use.
type Leader struct {
	name  string
	epoch int64
	term  [16]byte // a UUID, because a failover may lose an epoch, which is then given again
}

// Name returns the name that was passed to [Manager.Lead].
func (l *Leader) Name() string { return l.name }

// Epoch returns the number of the term. It grows with each election. Send it with writes to systems other than the database, which
// can then refuse a number that is less than one they have seen. After a failover that loses commits, a number may be given twice.
func (l *Leader) Epoch() int64 { return l.epoch }

// Lead calls fn whenever this process becomes the leader of this name, until ctx ends. Of all processes that call Lead, one is the
// leader. The others wait, each with a session outside the pool, and try to become the leader about every 0.5 s.
//
// If the leader loses its connection, the context of fn ends with the cause [ErrLockLost] within a second, even if the network
// reports nothing. When fn has returned, Lead waits for another election. If the process is frozen or cut off, the server gives
// its leadership up after 5 s.
//
// A context can't end in a process that is frozen, or whose statement is already on its way. Pass [Fenced] to each transaction that
// only the leader may commit.
//
// If fn returns while it leads, Lead gives the leadership up and returns fn's error. When ctx ends, Lead returns its cause. After
// [Manager.Close] it returns pgfx.ErrClosed, and behind a transaction pooler pgfx.ErrNoSession. Other failures are logged and
// retried with the backoff of pgfx.DB.RetryPolicy. While the gate of the pool is closed, Lead doesn't connect.
//
// Lead creates the table rdsfx_leaders if it doesn't exist, which needs the right to create tables.
func (m *Manager) Lead(ctx context.Context, name string, fn func(ctx context.Context, leader *Leader) error) error {
	policy := m.retryPolicy
	policy.MaxAttempts, policy.MaxElapsed, policy.Budget = pgfx.Off, pgfx.Off, nil
	retries, logged := policy.Begin(), ""
	for {
		led, lost, err := m.leadOnce(ctx, name, fn)
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("txn: lead %q: %w", name, context.Cause(ctx))
		case led && !lost, errors.Is(err, pgfx.ErrClosed), errors.Is(err, pgfx.ErrNoSession):
			return err
		case lost:
			m.logger.Warn("leadership lost", zap.String("leader", name), zap.Error(err))
			retries, logged = policy.Begin(), ""
		case err.Error() != logged:
			logged = err.Error()
			m.logger.Warn("cannot take part in the election", zap.String("leader", name), zap.Error(err))
		}
		retries.Next(ctx)
	}
}

// leadOnce waits until this process is the leader and calls fn. led reports whether fn was called, and lost whether the leadership
// was lost meanwhile.
func (m *Manager) leadOnce(ctx context.Context, name string, fn func(context.Context, *Leader) error) (led, lost bool, err error) {
	if err := m.db.Internals().Gate().Err(); err != nil {
		return false, false, fmt.Errorf("txn: lead %q: %w", name, err)
	}
	leader := &Leader{name: name}
	lock := &sessionLock{
		key: "rdsfx leader " + name, wait: true, poll: leaderPoll, check: leaderCheck, checkTimeout: leaderCheckTimeout,
		begin: func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, "select set_config('idle_session_timeout', $1, false)", milliseconds(leaderLease))
			return err //nolint:wrapcheck // the caller wraps it
		},
		acquired: leader.elect,
	}
	_, err = m.withSessionLock(ctx, lock, func(ctx context.Context) error {
		led = true
		m.logger.Info("elected as leader", zap.String("leader", name), zap.Int64("epoch", leader.epoch))
		return fn(ctx, leader)
	})
	return led, lock.lost, err
}

// elect begins a term. It waits for transactions that the previous leader has fenced.
func (l *Leader) elect(ctx context.Context, conn *pgx.Conn) (err error) {
	if l.term, err = newMarker(); err != nil {
		return err
	}
	if err := ensureTable(ctx, conn, leaderTable, createLeaderTable); err != nil {
		return err
	}
	err = conn.QueryRow(ctx, "insert into "+leaderTable+` as l (name, epoch, term) values ($1, 1, $2)
		on conflict (name) do update set epoch = l.epoch + 1, term = excluded.term, elected = now() returning epoch`, l.name, l.term).
		Scan(&l.epoch)
	if err != nil {
		return fmt.Errorf("begin a term: %w", err)
	}
	return nil
}

// Fenced lets a transaction commit only if leader hasn't been replaced. Its check is sent together with BEGIN and costs no round
// trip. If another leader has been elected, Do returns [ErrNotLeader] and doesn't call its closure.
//
// The session lock alone can't guarantee that. The server frees it when it considers the session lost. But the process may only
// have been frozen, for example while its virtual machine was moved. When it continues, it writes before it notices. The check
// reads the row of the current term and locks it, so the next election waits until the transaction has ended.
// A frozen leader would delay the election, so [IdleTimeout] is 5 s unless the option is given.
//
// A Do joins a running transaction only if that transaction is fenced by the same leader ([*OptionMismatchError]).
func Fenced(leader *Leader) Option {
	return Option{func(s *settings) error {
		if leader == nil {
			return errors.New("txn: Fenced(nil): pass the leader that Lead passes to its function")
		}
		s.leader = leader
		return nil
	}}
}

// queueCheck adds the statement that checks the term to a batch.
func (l *Leader) queueCheck(mode pgx.TxOptions, batch *pgx.Batch) {
	lock := " for share"
	if mode.AccessMode == pgx.ReadOnly {
		lock = ""
	}
	batch.Queue("select from "+leaderTable+" where name = $1 and term = $2"+lock, l.name, l.term).Query(func(rows pgx.Rows) error {
		defer rows.Close()
		if !rows.Next() && rows.Err() == nil {
			return ErrNotLeader
		}
		return rows.Err()
	})
}

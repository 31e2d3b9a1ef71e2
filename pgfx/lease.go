package pgfx

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/internal/caller"
	"github.com/rdsfx-go/rdsfx/internal/poolstats"
)

// Lease describes a connection that is currently checked out of the pool.
type Lease struct {
	// PID is the process ID of the server's backend, as in pg_stat_activity. A pooler in between may have invented it.
	PID uint32 `json:"pid"`
	// Since is when the connection was acquired.
	Since time.Time `json:"since"`
	// Statement is the normalized text, as in [Statement], of the last statement of this lease, "" if there was none. It holds
	// no values: a statement such as ALTER ROLE takes no arguments, so its text may contain a password.
	Statement string `json:"statement,omitempty"`
	// Stack is the stack of the acquire, innermost frame first, without the frames of this library and pgx. It is empty for some
	// leases of a connection that is acquired more than 4,000 times a second.
	Stack []runtime.Frame `json:"-"`
}

// maxStatementInError is how much of a statement String includes, in bytes.
const maxStatementInError = 80

// String describes the lease in one line.
func (l Lease) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "backend %d held for %v", l.PID, time.Since(l.Since).Round(time.Millisecond))
	if len(l.Stack) > 0 {
		b.WriteString(" by " + caller.Position(l.Stack[0]))
	}
	if l.Statement != "" {
		text := l.Statement
		if len(text) > maxStatementInError {
			text = strings.ToValidUTF8(text[:maxStatementInError], "") + "…"
		}
		b.WriteString(", last statement: " + text)
	}
	return b.String()
}

// Leases returns the connections that are currently checked out of the pool, the oldest lease first. Use it for diagnosis: it
// resolves the stack of every lease. If Config.Stats.Disabled is set it returns none. It is safe for concurrent use.
func (db *DB) Leases() []Lease {
	current := db.stats.Leases()
	leases := make([]Lease, len(current))
	for i, l := range current {
		leases[i] = Lease(l)
	}
	return leases
}

// AcquireFunc calls fn with one connection of the pool, for work that needs the same session throughout: temporary tables,
// session settings, LISTEN. It begins no transaction. Behind a transaction pooler there is no such session.
//
// The connection is released when fn returns or panics, and fn must not keep it. Changes of the session stay in effect for the
// next user of the connection: undo them, or use [DB.Session]. ctx bounds the acquire and is passed to fn.
func (db *DB) AcquireFunc(ctx context.Context, fn func(ctx context.Context, conn *pgx.Conn) error) error {
	conn, err := db.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("pgfx: acquire: %w", err)
	}
	defer conn.Release()
	return fn(ctx, conn.Conn())
}

// LeaseLimit is the duration from which leases are reported, for [Internals.LimitLease]. It is safe for concurrent use.
type LeaseLimit struct{ limit *poolstats.LeaseLimit }

// NewLeaseLimit returns a limit of after. A lease that lasts longer is logged once as a warning with the message exceeded, its
// age, its stack and its last statement without values. When it ends, the message ended is logged. If after is 0 or less, no
// lease with this limit is reported.
func NewLeaseLimit(after time.Duration, logger *zap.Logger, exceeded, ended string) *LeaseLimit {
	return &LeaseLimit{poolstats.NewLeaseLimit(after, logger, exceeded, ended)}
}

// Exceeded returns the number of leases that were reported.
func (l *LeaseLimit) Exceeded() int64 { return l.limit.Exceeded() }

package txn

import (
	"fmt"
	"time"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

const (
	defaultLeak = 30 * time.Second
	openForLong = "a transaction is open for long, keeps its locks and holds up vacuum; " +
		"give it a Timeout, and move out of it what waits for anything but the database"
)

// WithLongTxThreshold sets the time, counted from when it has its connection, from which on a transaction that is still open is reported:
// once, as a warning with its age, the stack that began it and the text of its last statement, without values. It is then
// counted in [Stats], and its end is logged too. Nothing is done to it: [Timeout] and [IdleTimeout] end transactions.
//
// A transaction that is watched in this way is not reported as a connection that is held for long (pgfx's
// Config.Stats.Leak). Where Config.Stats.Disabled is set nothing is reported. Default: 30 s. [pgfx.Off]: transactions are not
// told from other connections in use.
func WithLongTxThreshold(after time.Duration) ManagerOption {
	return ManagerOption{apply: func(m *Manager) error {
		if after <= 0 && after != pgfx.Off {
			return fmt.Errorf("txn: WithLongTxThreshold(%v): use a positive duration, or pgfx.Off", after)
		}
		m.open.After = after
		return nil
	}}
}

package txn

import (
	"fmt"
	"time"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

const (
	defaultLongTx = 30 * time.Second
	longTxMessage = "long-running transaction keeps its locks and delays vacuum; " +
		"set txn.Timeout, and move waiting for anything but the database out of it"
	longTxEndedMessage = "long-running transaction ended"
)

// WithLongTxThreshold sets how long a transaction may stay open before it is reported as long-running. The time is counted from
// when the transaction has its connection. The manager then logs one warning with the transaction's age, the stack that began
// it and the text of its last statement without values. It counts the transaction in [Stats] and logs its end. It doesn't end
// the transaction: use [Timeout] and [IdleTimeout] for that.
//
// This threshold replaces that of long-held leases (pgfx's Config.Stats.LongLease) for connections in a transaction. If
// Config.Stats.Disabled is set, nothing is reported. Default: 30 s. [pgfx.Off] applies the threshold of long-held leases to
// transactions, too.
func WithLongTxThreshold(after time.Duration) ManagerOption {
	return ManagerOption{apply: func(m *Manager) error {
		if after <= 0 && after != pgfx.Off {
			return fmt.Errorf("txn: WithLongTxThreshold(%v): use a positive duration, or pgfx.Off", after)
		}
		m.longTxThreshold = after
		return nil
	}}
}

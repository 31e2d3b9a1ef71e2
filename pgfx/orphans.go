package pgfx

import (
	"net"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"
)

// maxOrphans limits the memory for orphans that no monitor ends.
const maxOrphans = 1000

// orphans holds the backends of connections that were given up: the connection broke, or it left the pool within a transaction.
// Usually the server has noticed that too. If the network is at fault, it has not, and the backends keep their locks.
type orphans struct {
	mu   sync.Mutex
	list []orphan // oldest first
}

type orphan struct {
	backend Backend
	socket  net.Conn
}

// add adds the backend of a connection that was given up, unless it is unknown.
func (o *orphans) add(backend Backend, socket net.Conn) {
	if backend.Started == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if slices.ContainsFunc(o.list, func(known orphan) bool { return known.backend == backend }) {
		return
	}
	if len(o.list) == maxOrphans {
		o.list = o.list[1:]
	}
	o.list = append(o.list, orphan{backend, socket})
}

// isGivenUp reports whether a connection that leaves the pool may leave a backend behind. A connection that is idle ends its session
// when it is closed.
func isGivenUp(conn *pgx.Conn) bool { return conn.IsClosed() || conn.PgConn().TxStatus() != 'I' }

// HasOrphans reports whether [Internals.Orphans] would return any.
func (i *Internals) HasOrphans() bool {
	i.db.orphans.mu.Lock()
	defer i.db.orphans.mu.Unlock()
	return len(i.db.orphans.list) > 0
}

// Orphans returns the backends whose connections the pool has given up, because they broke or left the pool within a transaction.
// It first closes their sockets, so nothing uses these backends any more. They may hold locks until the server notices that the
// client is gone. Most have ended already. The health monitor ends the others and then calls [Internals.ForgetOrphans].
//
// Backends behind a pooler, whose start time is unknown, and those of hijacked connections are not included.
func (i *Internals) Orphans() []Backend {
	i.db.orphans.mu.Lock()
	defer i.db.orphans.mu.Unlock()
	backends := make([]Backend, 0, len(i.db.orphans.list))
	for _, o := range i.db.orphans.list {
		_ = o.socket.Close() // the connection is given up: its error does not matter
		backends = append(backends, o.backend)
	}
	return backends
}

// ForgetOrphans removes backends from the orphans.
func (i *Internals) ForgetOrphans(backends []Backend) {
	i.db.orphans.mu.Lock()
	defer i.db.orphans.mu.Unlock()
	i.db.orphans.list = slices.DeleteFunc(i.db.orphans.list, func(o orphan) bool { return slices.Contains(backends, o.backend) })
}

package poolstats

import "maps"

// hijackSearch finds connections that were hijacked from the pool, which pgxpool does not report.
//
// A hijacked connection keeps its lease, but the pool no longer counts it. If there are more leases than connections checked
// out, the difference is the number of hijacked ones among them. A lease that ends later was not one of these. Once only as many
// leases are left as were hijacked, they are known.
type hijackSearch struct {
	suspects map[*Conn]int64 // leases by number, nil if no search is under way
	hijacked int             // how many of the suspects are hijacked
}

// forgetHijacked removes connections that are known to be hijacked. c.mu must be held.
func (c *Collector) forgetHijacked() {
	search := &c.hijacks
	if search.suspects == nil {
		search.suspects, search.hijacked = c.openLeases(), 0
	}
	if len(search.suspects) == 0 {
		return
	}
	// Leases are read before and after the pool, so that each of those counted has lasted while the pool was read. The pool
	// also counts connections that it is about to close, so the difference may be too small until they are closed.
	checkedOut := c.cfg.CheckedOut()
	dropEnded(search.suspects)
	search.hijacked = max(search.hijacked, len(search.suspects)-checkedOut)
	if search.hijacked == 0 {
		search.suspects = nil
		return
	}
	if len(search.suspects) > search.hijacked {
		return
	}
	for conn := range search.suspects {
		conn.hijacked.Store(true)
		delete(c.conns, conn)
	}
	search.suspects = nil
}

// openLeases returns the numbers of the current leases.
func (c *Collector) openLeases() map[*Conn]int64 {
	var open map[*Conn]int64
	for conn := range c.conns {
		if number, ok := conn.leaseNumber(); ok {
			if open == nil {
				open = make(map[*Conn]int64, len(c.conns))
			}
			open[conn] = number
		}
	}
	return open
}

// dropEnded removes leases that have ended.
func dropEnded(leases map[*Conn]int64) {
	maps.DeleteFunc(leases, func(conn *Conn, number int64) bool {
		current, ok := conn.leaseNumber()
		return !ok || current != number
	})
}

// leaseNumber returns the number of the current lease, or false while the connection is idle.
func (c *Conn) leaseNumber() (int64, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leases, c.leased
}

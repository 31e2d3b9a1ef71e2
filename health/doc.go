// Package health monitors a database and recovers its pool. While the database is down, callers fail fast. When the pool's
// connections are probably broken, they are recycled.
//
// A [Monitor] probes the database on a dedicated connection outside the pool, one for each process and database. This is how it
// distinguishes a database that is down from a pool that is exhausted. A probe takes one round trip, every
// Config.Health.Interval (default 30 s) and more often while there is a problem. Between probes the monitor reads from the
// connection, so it notices at once when the server closes it.
//
// # States
//
// The states are [Starting], [Up], [Degraded] with a [Reason], [ReadOnly], [Down] with a cause, and [Stopped].
//
//   - A confirmed failure, such as a refused connection, takes a database down at once. A suspected failure, such as a timeout,
//     takes it down when it occurs twice in a row. A connection that is accepted but not answered is a failure.
//   - A database that was down is usable again after two successful probes, 20 ms apart.
//   - Degraded means that the database is usable and has a problem: an exhausted pool, a server that runs out of connection
//     slots, or new connections that fail while old ones work. Rejecting callers would fix none of them.
//
// # Actions
//
//   - When the database is down, the monitor closes the pool's gate: every acquire fails with a pgfx.UnavailableError within
//     microseconds. It probes again every 0.14 s, and less often in a long outage: the wait is 1 % of the outage's duration, at
//     most 0.8 s. Jitter shortens each wait by up to 10 %. If the server refuses the login, it waits up to 5 s, or until
//     the credentials change.
//   - It recycles the pool's connections when the database comes back, when another server answers at the address, when the
//     server was promoted or demoted, and when its own connection fails while new ones work. The *pgxpool.Pool stays the same
//     value.
//   - When its own connection does not respond while a new one works, it also abandons the statements in flight that the server
//     never received or whose response is lost. It leaves alone the statements that the server executes.
//   - When the server rejects writes and has accepted them before, each probe opens a new connection, to follow the name to the
//     new writer.
//
// The monitor logs every transition once and sends it to subscribers ([Monitor.Subscribe]) and observers ([WithObservers]).
//
// A statement of the pool that fails for a reason that may lie with the database causes a probe within 250 ms. So do statements
// that wait while none succeeds. The results of statements count as well: new connections that fail while statements succeed do
// not take a database down.
//
// # Endpoints
//
// [Handler] serves /livez, /readyz, /startupz and /healthz. Other components add a [Check] with [WithChecks] or [ProvideChecks].
// [DrainOnStop] reports an instance as not ready before it stops.
//
// rdsfx.Module and rdsfx.Open include a monitor. To use one alone, call [NewMonitor], then [Monitor.Start] after the DB's Start,
// and [Monitor.Close] before the DB's Close.
package health

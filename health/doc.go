// Package health knows whether a database can be used, says why not, and acts: it lets callers fail fast while the database
// is away and replaces the pool's connections when they can't be trusted.
//
// A [Monitor] looks at the database over a connection of its own, one for each process and database, outside the pool:
// only so can it tell a database that is down from a pool that is exhausted. Each look is one round trip
// every Config.Health.Interval, 30 s by default, and sooner while anything is wrong. Between looks the monitor listens on that
// connection, so that the end of a server is noticed when it happens. Those who can't spare the connection set
// Config.Health.ThroughPool.
//
// # States
//
// [Starting], [Up], [Degraded] with [Reason]s, [ReadOnly], [Down] with a cause, [Stopped]. Hard evidence, such as a refused
// connection, brings a database down at once; soft evidence, such as a timeout, when it is seen twice in a row. A connection
// that is accepted and then gives no answer is a failure. Coming back takes two good looks, 50 ms apart. An exhausted pool, a
// server that is running out of connection slots, or new connections that fail while old ones work are Degraded: none of
// them is mended by refusing everybody.
//
// # What the monitor does
//
//   - Down: it shuts the gate of the pool, so that callers get a pgfx.UnavailableError in microseconds, and
//     looks again after 0.1 s, then less and less often, with jitter: at least every 0.8 s while the trouble may pass by
//     itself, as a restart or a failover does, and every 5 s where somebody must mend it first.
//   - Back from Down, another server at the address, a change between writer and standby, or its own connection lost or
//     silent while new ones work: it replaces the pool's connections. The injected pool stays the same value.
//   - Its own connection silent while a new one works: it also gives up, at once, the statements in flight that the server
//     has never got or whose answer is lost, and leaves those alone that the server is at work on.
//   - ReadOnly where writes once worked: each look opens a new connection, so that it follows the name to the new writer.
//
// Every transition is logged once and told to subscribers ([Monitor.Subscribe]) and observers ([ProvideObservers]).
//
// A statement of the pool that fails for a reason that may be the database's makes the monitor look within a quarter of a
// second; so do statements that wait while none succeeds. Whether they get through is evidence too: new connections that fail
// while statements succeed don't bring a database down.
//
// # Telling others
//
// [Handler] answers the probes of orchestrators: /livez, /readyz, /startupz and /healthz. Other components contribute checks
// to it ([ProvideChecks], [WithChecks]). [DrainOnStop] makes an instance not ready before it stops.
//
// With Fx, rdsfx.Module includes the monitor; without, use [NewMonitor], [Monitor.Start] and [Monitor.Stop], after the DB's Start
// and before its Close.
package health

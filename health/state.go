package health

// State is the monitor's judgement of a database.
type State string

// The states. The database is usable in Up, Degraded and ReadOnly. In Switching, callers wait.
const (
	Starting State = "starting"  // no probe has decided yet
	Up       State = "up"        // the server answers and accepts writes
	Degraded State = "degraded"  // the database is usable, but has a problem: see Status.Reasons
	ReadOnly State = "read_only" // the server answers and rejects writes: a standby, or a demoted writer
	Down     State = "down"      // the database is not usable: see Status.Cause
	// Switching means that a Blue/Green switchover is in progress: callers wait for its end, which takes seconds.
	Switching State = "switching"
	Stopped   State = "stopped" // the monitor is closed; the state of the database is unknown
)

// Usable reports whether statements can be expected to succeed: s is Up, Degraded or ReadOnly, or Switching, in which they wait.
func (s State) Usable() bool { return s == Up || s == Degraded || s == ReadOnly || s == Switching }

// Reason names a problem of a database that is usable.
type Reason string

// The reasons, in the order in which Status lists them.
const (
	// ReasonPoolExhausted means that for at least 1 s all connections of the pool have been in use while callers waited. The
	// database works; the pool is too small, or connections are held too long.
	ReasonPoolExhausted Reason = "pool_exhausted"
	// ReasonPoolStalled means that the pool is exhausted and no connection has been released for 10 s: its holders hang, or have
	// leaked their connections.
	ReasonPoolStalled Reason = "pool_stalled"
	// ReasonServerNearlyFull means that less than 5 % of the server's connection slots are free. It ends when at least 10 %
	// are free.
	ReasonServerNearlyFull Reason = "server_nearly_full"
	// ReasonServerFull means that the server has no slot for a new connection (SQLSTATE 53300), while the pool's connections
	// still work.
	ReasonServerFull Reason = "server_full"
	// ReasonConnectFailing means that new connections fail, while statements on the pool's connections succeed.
	ReasonConnectFailing Reason = "connect_failing"
)

func reasonStrings(reasons []Reason) []string {
	list := make([]string, len(reasons))
	for i, reason := range reasons {
		list[i] = string(reason)
	}
	return list
}

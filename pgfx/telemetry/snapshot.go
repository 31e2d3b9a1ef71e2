package telemetry

import (
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/rdsfx-go/rdsfx"
	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/txn"
)

// snapshot is what the metrics of this file are read from, once for each collection.
type snapshot struct {
	target   target
	pool     pgfx.Stats
	topology pgfx.Topology
	tx       txn.Stats
	health   health.Status
}

func newSnapshot(d *rdsfx.Database, t target) *snapshot {
	s := &snapshot{target: t, pool: d.DB.Stats(), topology: d.DB.Topology()}
	if d.Tx != nil {
		s.tx = d.Tx.Stats()
	}
	if d.Health != nil {
		s.health = d.Health.Status()
	}
	return s
}

// kind is the kind of an observable instrument.
type kind int

const (
	gauge   kind = iota // an UpDownCounter, as the conventions use for current values that can be summed up
	counter             // a total
)

// part is the part of a database that a metric is about.
type part int

const (
	ofPool part = iota
	ofTransactions
	ofHealth
)

// emit reports one value of a metric.
type emit func(value float64, attrs ...attribute.KeyValue)

// snapshotMetric is a metric that is read from a snapshot.
type snapshotMetric struct {
	name, unit, description string
	kind                    kind
	part                    part
	read                    func(s *snapshot, emit emit)
}

// one returns a reader of a single value.
func one[N int | int64](value func(s *snapshot) N) func(*snapshot, emit) {
	return func(s *snapshot, emit emit) { emit(float64(value(s))) }
}

const (
	connections  = "{connection}"
	transactions = "{transaction}"
	databases    = "{database}"
	retries      = "{retry}"
	seconds      = "s"
)

// snapshotMetrics are all metrics of snapshots. Units in braces are counts and reported as integers.
var snapshotMetrics = []snapshotMetric{
	{
		"db.client.connection.count", connections, "The number of connections that are currently in the state.", gauge, ofPool,
		func(s *snapshot, emit emit) {
			emit(float64(s.pool.Pool.Idle), semconv.DBClientConnectionStateIdle)
			emit(float64(s.pool.Pool.InUse), semconv.DBClientConnectionStateUsed)
		},
	},
	{
		"db.client.connection.idle.max", connections, "The maximum number of idle open connections allowed.", gauge, ofPool,
		one(func(s *snapshot) int64 { return s.target.maxIdle }),
	},
	{
		"db.client.connection.idle.min", connections, "The minimum number of idle open connections allowed.", gauge, ofPool,
		one(func(s *snapshot) int64 { return s.target.minIdle }),
	},
	{
		"db.client.connection.max", connections, "The maximum number of open connections allowed.", gauge, ofPool,
		one(func(s *snapshot) int { return s.pool.Pool.Max }),
	},
	{
		"db.client.connection.pending_requests", "{request}", "The number of current pending requests for an open connection.", gauge, ofPool,
		one(func(s *snapshot) int { return s.pool.Pool.Waiting }),
	},
	{
		"db.client.connection.timeouts", "{timeout}", "The number of connection timeouts that have occurred trying to obtain a connection.", counter, ofPool,
		one(func(s *snapshot) int64 { return s.pool.Pool.AcquireTimeouts }),
	},

	{
		"rdsfx.connection.connecting", connections, "Connections that are being opened.", gauge, ofPool,
		one(func(s *snapshot) int { return s.pool.Pool.Connecting }),
	},
	{
		"rdsfx.connection.opened", connections, "Connections opened.", counter, ofPool,
		one(func(s *snapshot) int64 { return s.pool.Pool.Connected }),
	},
	{
		"rdsfx.connection.failures", "{failure}", "Failed attempts to open a connection.", counter, ofPool,
		one(func(s *snapshot) int64 { return s.pool.Pool.ConnectFailures }),
	},
	{
		"rdsfx.connection.closed", connections, "Connections that the pool has closed by its limits.", counter, ofPool,
		func(s *snapshot, emit emit) {
			emit(float64(s.pool.Pool.Expired), attribute.String("rdsfx.connection.close_reason", "max_lifetime"))
			emit(float64(s.pool.Pool.IdleClosed), attribute.String("rdsfx.connection.close_reason", "max_idle_time"))
		},
	},
	{
		"rdsfx.connection.long_held", "{lease}", "Connections that were held longer than Config.Stats.LongLease: probable leaks.", counter, ofPool,
		one(func(s *snapshot) int64 { return s.pool.Pool.LongHeld }),
	},
	{"rdsfx.acquires", "{acquire}", "Acquires of a connection by outcome.", counter, ofPool, readAcquires},
	{"rdsfx.statement.errors", "{error}", "Failed statements by SQLSTATE class.", counter, ofPool, readErrors},
	{
		"rdsfx.statement.slow", "{statement}", "Statements that took Config.Stats.Slow or longer.", counter, ofPool,
		one(func(s *snapshot) int64 { return s.pool.Statements.Slow }),
	},
	{
		"rdsfx.retry.calls", "{call}", "Calls that count towards the retry budget.", counter, ofPool,
		one(func(s *snapshot) int64 { return s.pool.Retries.Calls }),
	},
	{
		"rdsfx.retries", retries, "Retries by outcome: allowed or refused by the retry budget.", counter, ofPool,
		func(s *snapshot, emit emit) {
			emit(float64(s.pool.Retries.Retries), attribute.String("rdsfx.retry.outcome", "allowed"))
			emit(float64(s.pool.Retries.Refused), attribute.String("rdsfx.retry.outcome", "refused"))
		},
	},
	{
		"rdsfx.gate.closed_time", seconds, "Time for which the gate has refused all work since the setup steps have run.", counter, ofPool,
		func(s *snapshot, emit emit) { emit(s.pool.GateClosed.Seconds()) },
	},
	{"rdsfx.pool.resets", "{reset}", "Resets of the pool by reason.", counter, ofPool, readResets},

	{
		"rdsfx.topology.writer", "{instance}", "1 for the writer of the cluster, 0 for its other instances.", gauge, ofPool,
		func(s *snapshot, emit emit) {
			for _, instance := range s.topology.Instances {
				emit(flag(instance.Writer), instanceKey.String(instance.ID))
			}
		},
	},
	{
		"rdsfx.topology.lag", seconds, "How far an instance of the cluster is behind the writer.", gauge, ofPool,
		func(s *snapshot, emit emit) {
			for _, instance := range s.topology.Instances {
				emit(instance.Lag.Seconds(), instanceKey.String(instance.ID))
			}
		},
	},
	{
		"rdsfx.topology.writer_changes", "{change}", "How often another instance became the writer.", counter, ofPool,
		one(func(s *snapshot) int { return s.topology.Changes }),
	},

	{
		"rdsfx.transaction.active", transactions, "Transactions in progress.", gauge, ofTransactions,
		one(func(s *snapshot) int64 { return s.tx.Active }),
	},
	{"rdsfx.transactions", transactions, "Ended transactions by outcome and reason. Each attempt counts.", counter, ofTransactions, readTransactions},
	{
		"rdsfx.transaction.retries", retries, "Attempts of transactions after the first.", counter, ofTransactions,
		one(func(s *snapshot) int64 { return s.tx.Retried }),
	},
	{
		"rdsfx.transaction.in_doubt", transactions, "In-doubt commits by how they were resolved.", counter, ofTransactions,
		func(s *snapshot, emit emit) {
			const resolution = attribute.Key("rdsfx.transaction.resolution")
			emit(float64(s.tx.InDoubt.Committed), resolution.String("committed"))
			emit(float64(s.tx.InDoubt.Aborted), resolution.String("aborted"))
			emit(float64(s.tx.InDoubt.Unknown), resolution.String("unknown"))
		},
	},
	{
		"rdsfx.transaction.long_running", transactions, "Transactions that stayed open longer than txn.WithLongTxThreshold.", counter, ofTransactions,
		one(func(s *snapshot) int64 { return s.tx.LongRunning }),
	},
	{
		"rdsfx.http.request.failures", "{request}", "Failed requests of txn's middleware by reason.", counter, ofTransactions,
		func(s *snapshot, emit emit) {
			const reason = attribute.Key("rdsfx.http.reason")
			emit(float64(s.tx.Requests.Aborted), reason.String("aborted"))
			emit(float64(s.tx.Requests.TooLarge), reason.String("too_large"))
			emit(float64(s.tx.Requests.Unavailable), reason.String("unavailable"))
			emit(float64(s.tx.Requests.Failed), reason.String("failed"))
		},
	},

	{"rdsfx.health.state", databases, "1 for the current state of the database, 0 for the others.", gauge, ofHealth, readState},
	{"rdsfx.health.reason", databases, "1 for each current problem of a usable database, 0 for the others.", gauge, ofHealth, readReasons},
	{
		"rdsfx.health.initialized", databases, "1 once the setup steps have run.", gauge, ofHealth,
		func(s *snapshot, emit emit) { emit(flag(s.health.Initialized)) },
	},
	{
		"rdsfx.health.demoted", databases, "1 while a server rejects writes that has accepted them before.", gauge, ofHealth,
		func(s *snapshot, emit emit) { emit(flag(s.health.Demoted)) },
	},
	{
		"rdsfx.health.transitions", "{transition}", "Transitions into a state.", counter, ofHealth,
		func(s *snapshot, emit emit) {
			for _, state := range states {
				emit(float64(s.health.Transitions[state]), stateKey.String(string(state)))
			}
		},
	},
	{
		"rdsfx.health.probe.latency", seconds, "Round trip of the last successful probe.", gauge, ofHealth,
		func(s *snapshot, emit emit) {
			if s.health.LastProbe.Err == nil && !s.health.LastProbe.At.IsZero() {
				emit(s.health.LastProbe.Latency.Seconds())
			}
		},
	},
	{
		"rdsfx.health.ended_backends", "{backend}", "Backends of lost connections that the monitor has ended.", counter, ofHealth,
		one(func(s *snapshot) int { return s.health.EndedBackends }),
	},
	{
		"rdsfx.server.connections", connections, "Connections to all databases of the server.", gauge, ofHealth,
		func(s *snapshot, emit emit) {
			if s.health.Server.MaxConnections > 0 {
				emit(float64(s.health.Server.Connections))
			}
		},
	},
	{
		"rdsfx.server.connections.max", connections, "Connections that ordinary roles may have on the server.", gauge, ofHealth,
		func(s *snapshot, emit emit) {
			if s.health.Server.MaxConnections > 0 {
				emit(float64(s.health.Server.MaxConnections))
			}
		},
	},
	{
		"rdsfx.server.replication.lag", seconds, "Age of the last transaction that a standby has replayed.", gauge, ofHealth,
		func(s *snapshot, emit emit) {
			if s.health.Server.LagKnown {
				emit(s.health.Server.ReplicationLag.Seconds())
			}
		},
	},
	{
		"rdsfx.server.standby", "{server}", "1 if the server is a standby.", gauge, ofHealth,
		func(s *snapshot, emit emit) {
			if !s.health.LastGood.IsZero() {
				emit(flag(s.health.Server.InRecovery))
			}
		},
	},
}

const (
	stateKey    = attribute.Key("rdsfx.health.state")
	instanceKey = attribute.Key("rdsfx.topology.instance")
	healthKey   = attribute.Key("rdsfx.health.reason")
)

var states = []health.State{
	health.Starting, health.Up, health.Degraded, health.ReadOnly, health.Down, health.Switching, health.Stopped,
}

var reasons = []health.Reason{
	health.ReasonPoolExhausted, health.ReasonPoolStalled, health.ReasonServerNearlyFull, health.ReasonServerFull, health.ReasonConnectFailing,
}

func flag(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

func readAcquires(s *snapshot, emit emit) {
	const outcome = attribute.Key("rdsfx.acquire.outcome")
	emit(float64(s.pool.Pool.Acquired), outcome.String("acquired"))
	emit(float64(s.pool.Pool.AcquireErrors), outcome.String("failed"))
	emit(float64(s.pool.Pool.Refused), outcome.String("refused"))
}

func readErrors(s *snapshot, emit emit) {
	for class, n := range s.pool.Statements.ErrorsByClass {
		if class == "" {
			class = "none"
		}
		emit(float64(n), attribute.String("rdsfx.sqlstate.class", class))
	}
}

func readResets(s *snapshot, emit emit) {
	const reason = attribute.Key("rdsfx.pool.reset_reason")
	emit(float64(s.pool.Pool.ValidationResets), reason.String("validation"))
	for _, r := range []health.ResetReason{
		health.ResetRecovered, health.ResetServerChanged, health.ResetRoleChanged, health.ResetSwitched, health.ResetSuspect,
	} {
		emit(float64(s.health.ResetsByReason[r]), reason.String(string(r)))
	}
}

func readTransactions(s *snapshot, emit emit) {
	emit(float64(s.tx.Committed), outcomeKey.String("committed"))
	emit(float64(s.tx.InDoubt.Unknown), outcomeKey.String("unknown"))
	r := s.tx.RolledBack
	for reason, n := range map[string]int64{
		"error": r.Error, "panic": r.Panic, "cancelled": r.Cancelled, "serialization": r.Serialization, "error_ignored": r.ErrorIgnored,
		"invalid_use": r.InvalidUse, "refused": r.Refused, "conn_lost": r.ConnLost, "begin_failed": r.BeginFailed,
	} {
		emit(float64(n), outcomeKey.String("rolled_back"), reasonKey.String(reason))
	}
}

func readState(s *snapshot, emit emit) {
	for _, state := range states {
		emit(flag(s.health.State == state), stateKey.String(string(state)))
	}
}

func readReasons(s *snapshot, emit emit) {
	current := make(map[health.Reason]bool)
	for _, reason := range s.health.Reasons {
		current[reason] = true
	}
	for _, reason := range reasons {
		emit(flag(current[reason]), healthKey.String(string(reason)))
	}
}

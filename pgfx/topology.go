package pgfx

import (
	"context"
	"time"
)

// TopologyKind is the kind of cluster behind the address of a [DB].
type TopologyKind string

// The kinds of clusters.
const (
	// TopologyUnknown means that nothing has found out the kind: package aurora is not in use, or the start is not done.
	TopologyUnknown TopologyKind = ""
	// TopologyPlain is a server without functions that describe a cluster.
	TopologyPlain TopologyKind = "plain"
	// TopologyAurora is an Aurora cluster, and TopologyAuroraGlobal one that is part of a global database.
	TopologyAurora       TopologyKind = "aurora"
	TopologyAuroraGlobal TopologyKind = "aurora_global"
	// TopologyMultiAZ is an RDS Multi-AZ DB cluster: a writer with two readable standbys.
	TopologyMultiAZ TopologyKind = "rds_multi_az_cluster"
	// TopologyInstance is an RDS instance that reports Blue/Green deployments.
	TopologyInstance TopologyKind = "rds_instance"
)

// Topology describes the cluster behind the address of a [DB], as package pgfx/aurora reads it from the cluster itself. In
// JSON, durations are numbers of nanoseconds; a zero time, an empty list and an empty text are left out.
type Topology struct {
	Kind TopologyKind `json:"kind"`
	// Cluster is the system identifier of the cluster, "" if the role may not read it.
	Cluster string `json:"cluster,omitempty"`
	// At is when the view was read and Source the instance that reported it.
	At     time.Time `json:"at,omitzero"`
	Source string    `json:"source,omitempty"`
	// Instances are the members of the cluster, the writer first and the others sorted by ID. Snapshots share the list: do
	// not change it.
	Instances []Instance `json:"instances,omitempty"`
	// Changes counts how often another instance became the writer. WriterSince is when the monitor noticed the last change.
	Changes     int       `json:"changes"`
	WriterSince time.Time `json:"writer_since,omitzero"`
	// BlueGreen is the Blue/Green deployment of the cluster, nil if there is none.
	BlueGreen *BlueGreen `json:"blue_green,omitempty"`
	// Err is why the topology is not up to date, "" if it is.
	Err string `json:"error,omitempty"`
}

// Instance is a member of a cluster.
type Instance struct {
	// ID is the identifier of the DB instance.
	ID string `json:"id"`
	// Host and Port are the instance endpoint. Host is "" if it is not known. Port is 0 for the port of the DB's address.
	Host string `json:"host,omitempty"`
	Port uint16 `json:"port,omitempty"`
	// Writer reports whether the instance accepts writes.
	Writer bool `json:"writer"`
	// Lag is how far the instance is behind the writer.
	Lag time.Duration `json:"lag,omitempty"`
	// Region is the AWS Region in a global database, otherwise "".
	Region string `json:"region,omitempty"`
}

// BlueGreen describes a Blue/Green deployment.
type BlueGreen struct {
	// Phase is created, preparing, in_progress, post_processing or completed. Since is when the monitor noticed it.
	Phase string    `json:"phase"`
	Since time.Time `json:"since"`
	// Switching reports that neither side can be used. The health monitor then makes acquires wait. It ends after
	// aurora.Config.SwitchTimeout in any case.
	Switching bool `json:"switching"`
	// Substituted reports that connections use the addresses of the green side, because DNS still leads to the blue one.
	Substituted bool `json:"substituted"`
}

// Writer returns the instance that accepts writes. It returns false if none is known.
func (t Topology) Writer() (Instance, bool) {
	for _, instance := range t.Instances {
		if instance.Writer {
			return instance, true
		}
	}
	return Instance{}, false
}

// Topology returns the cluster behind the address, as its monitor last saw it. It is zero unless package pgfx/aurora is
// in use. It does not query the server.
func (db *DB) Topology() Topology {
	if current := db.internals.topology.Load(); current != nil {
		return *current
	}
	return Topology{}
}

// TopologyFunc finds out the cluster behind a DB. See [WithTopology].
type TopologyFunc func(ctx context.Context, db *DB) error

// WithTopology sets the function that finds out the cluster behind the DB. It runs during [DB.Start], after the first
// connection has been opened and before the setup steps. Its ctx admits it to the pool. It uses [DB.Internals] to publish
// what it finds and to route connections. An error fails the start. The last option of this kind counts, and nil disables it.
// Package pgfx/aurora provides the option.
func WithTopology(fn TopologyFunc) Option {
	return Option{apply: func(o *options) { o.topology = fn }}
}

// PublishTopology makes t the result of [DB.Topology] and passes it to the subscribers.
func (i *Internals) PublishTopology(t Topology) {
	i.topology.Store(&t)
	for _, fn := range i.topologies.all() {
		(*fn)(t)
	}
}

// SubscribeTopology calls fn with each topology that is published from now on. fn must return quickly and be safe for concurrent
// use. cancel removes fn and may be called more than once.
func (i *Internals) SubscribeTopology(fn func(Topology)) (cancel func()) { return i.topologies.add(fn) }

// Go runs fn in a goroutine that [DB.Close] waits for. ctx ends when Close begins.
func (i *Internals) Go(fn func(ctx context.Context)) {
	i.db.background.Go(func() { fn(i.db.lifetime) })
}

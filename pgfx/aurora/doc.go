// Package aurora makes a DB follow its cluster on Amazon Aurora and Amazon RDS. After a failover, connections go to the new writer
// as soon as it is promoted, while DNS still leads to the old one. It needs plain SQL only, no API of AWS and no permission in
// IAM.
//
// [Topology] is an option for pgfx.Open. rdsfx.Open and rdsfx.Module use [Automatic], which is Topology for hosts that are
// endpoints of AWS.
//
//	db, err := pgfx.Open(cfg, aurora.Topology(aurora.Config{}))
//
// The first connection finds out which kind of cluster the server belongs to. A plain server costs one query in the life of the DB.
// A cluster gets one monitor in the process, which the DBs of the cluster share. It keeps a connection to the writer and reads the
// topology from it every 30 s. When the writer is lost, it polls all instances at once, every 100 ms, until one of them reports
// that it is the writer.
//
// From then on the endpoints are resolved by the topology:
//
//   - a cluster endpoint means the writer's instance endpoint;
//   - a reader endpoint means a live reader's instance endpoint;
//   - an instance endpoint, RDS Proxy and a custom endpoint are left to DNS.
//
// In a Blue/Green switchover, callers wait for the active phase, which takes seconds. Then connections use the addresses of the green
// side until DNS leads there.
//
// TLS certificates are checked against the instance endpoint, and functions of pgfx.WithBeforeConnect see that host. Connections
// are routed only to instance endpoints that the monitor has reached itself, so a network that hides them changes nothing.
//
// pgfx.DB.Topology returns what is known. The status of the health monitor contains it too.
package aurora

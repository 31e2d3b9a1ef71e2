// Package redisstore is the Redis side of a cutover to PostgreSQL (package cutover). It works with a single server, a server behind
// Sentinel, and Redis Cluster.
//
// A [Kind] converts the values of an application's keys: [JSON], [Strings], [Bytes], [Hashes], [Lists], [Sets], [SortedSets], or [Any] for
// keys of all these types. Streams and types of modules can't be moved. Expiries are kept to the millisecond.
//
// # Writes
//
// One script checks the fence, records the mark and replaces the value, so Redis does all of it or nothing. Keys of the bookkeeping are
// called rdsfx:cutover:NAME:fence, marks and versions. In a cluster, each hash slot has separate ones, because a script can't reach others.
//
// # What Redis must be
//
// Redis 6.2 or later; the tests run on 7.0. A cutover can't keep writes that Redis loses. With appendfsync
// everysec, Redis may lose the last second before a crash. After a failover to a replica it may lose some as well.
//
// An eviction policy allkeys-* is refused, because it may remove the repair log. A policy volatile-* removes keys without a mark. A
// verification then finds them in PostgreSQL alone.
package redisstore

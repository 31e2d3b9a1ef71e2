// Package cutover moves a live key-value store, such as Redis, to PostgreSQL without losing a write. The application uses a [Store] in
// place of its old store. An operator takes it through the phases with [Mover.Advance], and back with [Mover.Rollback]. Package
// redisstore has the old store for Redis.
//
//	m, err := cutover.NewMover(tx, "sessions", redisSessions, sessions, cutover.Config[Session]{})
//	...
//	err = m.Start(ctx)
//	...
//	err = m.Store().Set(ctx, "session:42", session, time.Hour)
//
// # Phases
//
//	phase        reads       writes
//	off          old store   old store. The library is deployed.
//	dual_write   old store   old store, copied to PostgreSQL
//	backfill     old store   as before. Backfill copies the other keys.
//	verify       old store   as before. Verify compares both sides.
//	shadow_read  old store   as before. A share of the reads is compared.
//	read_new     PostgreSQL  as before
//	primary_new  PostgreSQL  there, copied back to the old store
//	done         PostgreSQL  only there. Can't be undone.
//
// The phase is a row in PostgreSQL. Every process polls it and reports the epoch that it has observed, which rises with each step.
//
// # Why no write is lost
//
// These rules hold at all times, whatever process stalls or dies at whatever point. The tests check them with random schedules.
//
//  1. A copy is never a value that was remembered. It is the present state of a key, read from the primary and written to the other
//     side. To PostgreSQL it is written under the lock of the key. To the old store it is written with a version that was given under
//     that lock, and the old store ignores versions that are not later than its own. So copies may repeat and may come in any
//     order: the last one has the latest state. A backfill can't overwrite a newer write, and a deleted key stays deleted. That is
//     why no tombstones are needed.
//  2. If the two sides of a key differ, the repair log has the key. The old store records a mark together with the value, and each
//     write has a separate one. PostgreSQL records a row in the transaction of the write. An entry is removed only after a copy that
//     began when the entry existed. The repair log lies in the primary, so it survives what the value survives. (Keys that were not
//     written since DualWrite began are equal once the backfill is complete. A key that expires needs no entry, because both sides
//     have the same absolute expiry.)
//  3. Each side refuses writers of another time. The old store compares its fence with the epoch of every write, in one atomic step. In
//     PostgreSQL, a transaction reads the phase under a lock, which a step waits for. So a process that hung for hours can't write
//     to a side that is no longer the primary, whatever its clock shows.
//  4. The primary changes only while no process writes. The step first takes an epoch with which no process writes, and raises the fence.
//     Then it works the repair log off until it is empty, so by rule 2 both sides are equal. Then it commits the new phase. If
//     this takes longer than Config.Hold, or if the process dies, the step is undone by itself or by another process. The
//     commit and the undoing compare the epoch, so only one of them happens. The step to ReadNew does the same, so reads
//     find every acknowledged write.
//  5. A process is at most one step behind. A step is taken only if every process with a valid lease has observed the present epoch. A
//     process whose lease has expired by its own clock reads the state again before it returns what it has read. Neighbouring
//     phases agree about the side that has every acknowledged write, and a rollback passes through the phases between.
//
// A write is acknowledged with a nil error if the primary has it and every process reads it. If its copy fails while a process may read
// from PostgreSQL, the write returns an [*UnsyncedError] instead.
//
// # Failures
//
//   - A writer dies between its steps: the primary has the write and the repair log has the key. Another process repairs it.
//   - PostgreSQL is away: before ReadNew the application continues on the old store, and the repair log grows. From ReadNew on reads
//     fail. During a step that holds the writers, they wait for PostgreSQL.
//   - The old store is away: as without this package until PrimaryNew. From then on the application continues on PostgreSQL.
//   - The reply to a COMMIT is lost: package txn resolves it, or the write returns txn.ErrOutcomeUnknown. If it was committed, its row
//     in the repair log was committed with it.
//   - Two operators advance at once: one step is taken, because both compare the epoch.
//   - A store loses acknowledged writes, for example in a failover to an asynchronous replica: no rule can hold then. If PostgreSQL has
//     lost commits before PrimaryNew, call Backfill with Restart. If the old store has, Verify with Repair.
//
// # What the application must do
//
// Every process must use the Store for every key of the cutover before it leaves Off. Writes that bypass it have no mark and are not
// fenced. Verify finds them. The clocks of PostgreSQL and of the old store should agree within Config.ExpiryTolerance.
package cutover

package txn

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// LockKey returns the number of the advisory lock for a key: the first eight bytes of the key's SHA-256, big-endian, as a signed
// integer. Other programs can acquire the same lock with
//
//	select pg_advisory_lock(('x' || left(encode(sha256('key'), 'hex'), 16))::bit(64)::bigint)
//
// Two different keys get the same number with a probability of 2^-64; they then exclude each other.
func LockKey(key string) int64 {
	sum := sha256.Sum256([]byte(key))
	return int64(binary.BigEndian.Uint64(sum[:])) //nolint:gosec // all 64 bits, including the sign
}

// AdvisoryLock acquires the advisory lock of this key (PostgreSQL manual, "Advisory Locks"). The lock is held until the end of
// the innermost transaction that ctx carries, of any database. If it was acquired in a [Nested] scope that is rolled back, it
// is released then. A transaction may acquire the same lock again.
//
// AdvisoryLock waits until the lock is free or ctx ends. It waits inside the transaction, whose snapshot can delay VACUUM and CREATE
// INDEX CONCURRENTLY meanwhile, and the session's statement and lock timeouts end the wait. For long waits use
// [Manager.WithSessionLock]. The error is [ErrNoTransaction] outside a transaction.
func AdvisoryLock(ctx context.Context, key string) error {
	s, err := activeScope(ctx)
	if err != nil {
		return err
	}
	if _, err := s.t.Exec(ctx, "select pg_advisory_xact_lock($1)", LockKey(key)); err != nil {
		return fmt.Errorf("txn: lock %q: %w", key, err)
	}
	return nil
}

// TryAdvisoryLock is [AdvisoryLock] without waiting. It reports whether the transaction now holds the lock.
func TryAdvisoryLock(ctx context.Context, key string) (bool, error) {
	s, err := activeScope(ctx)
	if err != nil {
		return false, err
	}
	var locked bool
	if err := s.t.QueryRow(ctx, "select pg_try_advisory_xact_lock($1)", LockKey(key)).Scan(&locked); err != nil {
		return false, fmt.Errorf("txn: lock %q: %w", key, err)
	}
	return locked, nil
}

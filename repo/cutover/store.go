package cutover

import (
	"context"
	"errors"
	"time"
)

// Entry is the state of one key in a store: absent, or a value with an absolute expiry.
type Entry[V any] struct {
	Key string
	// Found is false if the key is absent. Value and Expires are then zero.
	Found bool
	Value V
	// Expires is the time after which the key is absent. Zero: it never expires. In the old store it is a time of that store's
	// clock. A resolution of 1 ms or better is kept.
	Expires time.Time
}

// Old is the store that the application moves away from. A source such as redisstore implements it.
//
// The methods may be called concurrently, by several processes. ctx bounds each call. An error means that the store could not be
// reached or has refused the call. Unless a method documents more, the call may then have been applied or not. In particular, a call
// that has ended without a reply may still be applied later.
type Old[V any] interface {
	OldValues[V]
	OldWrites[V]
	OldMarks
}

// OldValues reads the old store.
type OldValues[V any] interface {
	// Get returns the present state of each key, in the order of keys, in one round trip if the store can. It reads the primary
	// copy of the data, never a replica: a copy of an older state than the marks would lose writes.
	Get(ctx context.Context, keys ...string) ([]Entry[V], error)
	// Scan returns about count of the application's keys, beginning at the cursor. The empty cursor begins a pass, and an empty
	// Next ends it. A pass returns every key that exists during the whole of it, at least once. Keys may repeat; keys that are
	// created or deleted meanwhile may be missing. Keys of the store's own bookkeeping (marks, versions, the fence) are left out.
	//
	// A cursor is kept across restarts of this process. If the store can't continue at it, for example because it was restarted
	// itself and orders its keys differently, the error is [ErrCursorLost].
	Scan(ctx context.Context, cursor string, count int) (KeyPage, error)
	// Size returns the approximate number of the application's keys.
	Size(ctx context.Context) (int64, error)
}

// KeyPage is a part of a pass over all keys.
type KeyPage struct {
	Keys []string
	Next string // cursor of the next page, empty after the last one
}

// OldWrites writes to the old store. The fence is one number, the epoch, which only rises. It is zero until it is first raised.
type OldWrites[V any] interface {
	// Write compares the fence with w.Epoch, records the mark, if there is one, and stores the entry, in one atomic step. If the
	// fence differs, it returns [ErrFenced], and then it is certain that the write was not applied and never will be.
	// So a client that repeats a call whose reply was lost must not report ErrFenced for the repetition; disable its retries.
	//
	// If the store can't record the mark atomically with the value, it records the mark first and awaits that. Fence and value
	// remain one atomic step.
	Write(ctx context.Context, w Write[V]) error
	// Copy stores the state of a key that PostgreSQL has committed. It does the following atomically. If the fence differs from
	// c.Epoch, it returns [ErrFenced]. If the version of the key is equal to c.Version or higher, it does nothing and returns nil.
	// Otherwise it stores the entry and the version. It records no mark. An entry whose Expires has passed is absent. The version
	// of a key is kept even if the key is absent, until [OldCleaner.Clean].
	Copy(ctx context.Context, c Copy[V]) error
	// Fence raises the fence to epoch if it is lower, and returns the fence. When it has returned, every write with another epoch
	// than the fence is refused, in every part of the store. Zero only reads it; if parts differ, the lowest is returned.
	Fence(ctx context.Context, epoch int64) (int64, error)
}

// Write is a write of the application to the old store.
type Write[V any] struct {
	// Entry is the state to store. If Found is false, the key is deleted.
	Entry[V]

	// TTL replaces Expires if it is positive. It counts from the write, by the clock of the store.
	TTL time.Duration
	// Epoch is the epoch that the writer has observed last.
	Epoch int64
	// Mark is the ID of the mark to record, unique for each write. Empty: none.
	Mark string
}

// Copy is the state of a key in PostgreSQL, on its way to the old store.
type Copy[V any] struct {
	Entry[V]

	// Version rises with each change of the key in PostgreSQL.
	Version int64
	// Epoch is the epoch at which the state was read.
	Epoch int64
}

// OldMarks is the repair log of the old store. A mark records that the copy of a key in PostgreSQL may be older than the key. Each
// write has a separate mark, so removing one leaves those of concurrent writes in place. Marks last as long as the values do: they have the
// same persistence and replication.
type OldMarks interface {
	// Marks returns up to limit marks, approximately the oldest first. The empty cursor begins a pass. A pass returns every mark
	// that exists during the whole of it, at least once.
	Marks(ctx context.Context, cursor string, limit int) (MarkPage, error)
	// RemoveMarks removes these marks. Marks that don't exist are ignored.
	RemoveMarks(ctx context.Context, marks ...Mark) error
	// CountMarks returns the number of all marks, in every part of the store. Zero is exact: after the fence was raised, zero
	// means that there is no mark, and that none can appear.
	CountMarks(ctx context.Context) (MarkCount, error)
}

// Mark is an entry of the repair log.
type Mark struct {
	ID  string
	Key string
	// At is the time of the write, by the clock of the store or of the writer. It is only shown and compared with minutes.
	At time.Time
}

// MarkPage is a part of a pass over all marks.
type MarkPage struct {
	Marks []Mark
	Next  string // cursor of the next page, empty after the last one
}

// MarkCount describes the repair log.
type MarkCount struct {
	Count int64
	// Oldest is the time of the oldest mark, zero without marks.
	Oldest time.Time
}

// OldUpdater is implemented by old stores that can change a key depending on its present state. [Store.Update] needs it.
type OldUpdater[V any] interface {
	// Update reads a key, calls fn with its state, and writes the result of fn as Write does. If the key was changed in between, the
	// error is [ErrChanged], and the write was not applied. fn is called at most once. Its error ends the update and is returned
	// unchanged.
	Update(ctx context.Context, key string, fn func(Entry[V]) (Write[V], error)) error
}

// OldChecker is implemented by old stores that can't hold every value, for example because they know no empty lists. In PrimaryNew a write
// is checked before it is stored in PostgreSQL, so that every acknowledged write can be copied back.
type OldChecker[V any] interface {
	// CheckEntry returns the reason why the store can't hold the entry, nil if it can. It reads no store.
	CheckEntry(entry Entry[V]) error
}

// OldCleaner is implemented by old stores that can remove the bookkeeping of a cutover. [Mover.Clean] calls it after Done.
type OldCleaner interface {
	// Clean removes all marks and versions. The fence stays, so that a process which hung through the cutover is still refused.
	// It may be called again after it has failed.
	Clean(ctx context.Context) error
}

// OldDescriber is implemented by old stores that can describe keys for [Mover.Plan].
type OldDescriber interface {
	// Describe describes keys, in their order. The type of a key that is absent is empty.
	Describe(ctx context.Context, keys ...string) ([]Description, error)
}

// Description describes a key of the old store.
type Description struct {
	Key string
	// Type is the store's name of the type, for example "string" or "hash".
	Type string
	// Bytes is the approximate memory or disk space of the key with its value.
	Bytes int64
	// TTL is the time until the key expires. Zero: it never expires.
	TTL time.Duration
}

// New is the PostgreSQL side. Every method runs in the transaction that ctx carries (see txn.Manager), or on the pool if it carries
// none. A repository and the methods of the manager do so automatically. [FromRepository] makes a New of a repository.
//
// The methods may be called concurrently.
type New[V any] interface {
	// Get returns the present state of each key, in the order of keys. It may return an entry that has expired.
	Get(ctx context.Context, keys ...string) ([]Entry[V], error)
	// Put stores the state of each key: it inserts or replaces the row if Found is true, and deletes the row otherwise. It
	// doesn't fail for rows that exist or are missing. The keys of one call differ. An error leaves nothing stored.
	Put(ctx context.Context, entries ...Entry[V]) error
	// List returns up to limit entries whose keys come after the given one. The order is total and stable, such as that of the
	// primary key. The empty key begins.
	List(ctx context.Context, after string, limit int) ([]Entry[V], error)
}

// NewSweeper is implemented by PostgreSQL sides that can delete expired rows. Without it expired rows remain, though reads of a
// [Store] treat them as absent.
type NewSweeper interface {
	// DeleteExpired deletes up to limit rows that have expired by the clock of PostgreSQL and returns their number. The condition
	// is part of the statement that deletes, so a row that was replaced meanwhile stays.
	DeleteExpired(ctx context.Context, limit int) (int64, error)
}

var (
	// ErrFenced is returned by an old store that refuses a write because the fence has another epoch. A [Store] handles it: it
	// reads the phase again and repeats the write.
	ErrFenced = errors.New("cutover: the old store refuses this epoch")
	// ErrChanged is returned by [OldUpdater.Update] if the key was changed meanwhile. A [Store] handles it by another attempt.
	ErrChanged = errors.New("cutover: the key was changed meanwhile")
	// ErrCursorLost is returned by [OldValues.Scan] if the store can't continue at the cursor. The pass begins again.
	ErrCursorLost = errors.New("cutover: the old store can't continue at this cursor")
)

package pgfx

import "context"

// GuardAcquire has fn asked before each acquire of the pool, with the ctx of whoever acquires; an error is what that caller
// gets, without a connection. fn runs on every acquire: it must be fast, safe for concurrent use and must not use the pool.
// It replaces the function given before; nil takes it away. It is how package txn finds statements that were meant for a
// transaction and run beside it.
func (db *DB) GuardAcquire(fn func(ctx context.Context) error) {
	if fn == nil {
		db.guard.Store(nil)
		return
	}
	db.guard.Store(&fn)
}

func (db *DB) guarded(ctx context.Context) error {
	if guard := db.guard.Load(); guard != nil {
		return (*guard)(ctx)
	}
	return nil
}

package pgfx

// OnFailure makes fn hear of everything that fails on the pool: a statement, an acquire, an attempt to connect. It gets
// pgx's own error, of constraint violations and cancelled contexts too, and picks what it cares about. The health monitor
// uses it to look when traffic meets trouble instead of at its next turn.
//
// fn is called by the goroutine that met the error, before it gets it; it must be quick and safe for concurrent use. It
// replaces the function given before; nil takes it away. Without failures it costs nothing.
func (db *DB) OnFailure(fn func(err error)) {
	if fn == nil {
		db.failure.Store(nil)
		return
	}
	db.failure.Store(&fn)
}

// failed passes an error on.
func (db *DB) failed(err error) {
	if fn := db.failure.Load(); fn != nil {
		(*fn)(err)
	}
}

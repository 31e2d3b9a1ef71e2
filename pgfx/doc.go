// Package pgfx runs the database of an application: a plain *pgxpool.Pool whose life is the application's, and what is
// known about it.
//
// The pool is pgx's own. What this package adds lives in pgx's hooks and tracers, so that whoever is handed the raw pool
// (sqlc's code, River, hand-written pgx) gets it too: credentials read for each connection, an acquire timeout that names
// who holds the connections ([AcquireTimeoutError]), a [Gate] that fails callers at once while the database is away, and
// what is watched: the figures of [DB.Stats], the statements that take the time ([DB.Statements]) or are slow ([DB.Slow]),
// and connections that are held for too long ([DB.Leases], [StatsConfig]). [DB] adds what hooks can't give: a start that
// waits for the database, a stop that is bounded and reports who still holds connections, and [DB.Connect] for connections
// outside the pool.
//
// Every connection has codecs that take UUIDs, raw JSON and times to the wire without detours (Config.DisableFastCodecs leaves
// them to pgx), and knows the types of the database that [WithTypes] names. [DB.SQL] is the same pool for GORM, bun, sqlx
// and others that want a *sql.DB.
//
// With Fx, include rdsfx.Module, which bundles this package with health and transactions. Without Fx:
//
//	db, err := pgfx.Open(pgfx.Config{URL: "postgres://app@localhost/app"})
//	...
//	err = db.Start(ctx)
//	defer db.Close(ctx)
//
// A statement whose ctx ends is cancelled on the server and keeps its connection; its error is then the server's
// (SQLSTATE 57014) and not the ctx's. Only when the server does not answer the request within a second is the
// connection given up.
package pgfx

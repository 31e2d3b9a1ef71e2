// Package pgfx opens and supervises a PostgreSQL connection pool: a plain *pgxpool.Pool that starts and stops with the
// application.
//
// The additions to the pool use pgx's hooks and tracers. They also apply to code that receives the pool itself, such as
// sqlc's code, River or hand-written pgx:
//
//   - credentials that are read for each new connection ([WithCredentials], Config.PasswordFile)
//   - an acquire timeout whose error names the holders ([AcquireTimeoutError])
//   - a gate, closed while the database is down, that fails calls at once ([UnavailableError])
//   - statistics ([DB.Stats], [DB.Statements], [DB.Slow]) and long-held leases ([DB.Leases], [StatsConfig])
//   - fast codecs for UUIDs, raw JSON and times (Config.DisableFastCodecs), and types of the database ([WithTypes])
//
// [DB] adds a start that waits for the database, a bounded close that names the connections still in use, and connections
// outside the pool ([DB.Connect]). [DB.SQL] returns the same pool as a *sql.DB, for GORM, bun and sqlx.
//
// With Fx, use rdsfx.Module, which adds health and transactions. Without Fx:
//
//	db, err := pgfx.Open(pgfx.Config{URL: "postgres://app@localhost/app"})
//	...
//	err = db.Start(ctx)
//	defer db.Close(ctx)
//
// When the ctx of a running statement ends, the statement is cancelled on the server and its connection is kept. The error is
// then the server's (SQLSTATE 57014), not that of the ctx. If the statement does not end within 1 s, its connection is
// closed.
package pgfx

// Package ormtest tests other libraries on the pool: GORM, bun, sqlx, ent and code in the form that sqlc generates. Each is used
// beside a repository in one application. The package is a separate module, so that users of the library do not inherit its
// dependencies. It exports nothing.
//
// Code that accepts an interface with pgx's methods can join a transaction in ctx, because *txn.Manager has these methods.
// sqlc's code for pgx is an example. Users of database/sql (GORM, bun, sqlx, ent, sqlc's code for database/sql) join it through
// txn.Manager.SQL, where their own transactions are savepoints. On pgfx.DB.SQL they have separate transactions. Inside
// txn.Manager.Do, the use of pgfx.DB.SQL is reported like any use of the pool (txn.WithPoolUseInTx).
//
// The command suites runs the suites of pgxpool and River on the pool.
//
// A test compares the dashboard of pgfx/telemetry with the model of Grafana's SDK.
package ormtest

// Package ormtest holds tests of other libraries on the pool: GORM, bun, sqlx and code as sqlc generates it, at work beside
// a repository in one application. It is a module of its own, so that nobody who uses the library inherits them, and has
// nothing to import.
//
// What can take part in a transaction that the ctx carries: whatever takes an interface with pgx's methods, as sqlc's code
// for pgx does, because *txn.Manager has them. Users of database/sql (GORM, bun, sqlx, sqlc's code for database/sql) have
// transactions of their own; inside of txn.Manager.Do their use is reported (txn.WithPoolUseInTx) like any use of the bare pool.
package ormtest

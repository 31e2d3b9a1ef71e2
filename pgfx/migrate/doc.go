// Package migrate applies goose migrations (https://github.com/pressly/goose) when the application starts, before the schema
// check and everything else that needs tables:
//
//	//go:embed migrations/*.sql
//	var files embed.FS
//
//	fx.New(rdsfx.Module, migrate.Module(files, migrate.WithDir("migrations")), ...)
//
// Without Fx, pass [Step] to pgfx.WithSetup, or call [Run] with a pgfx.DB.
//
// # Safety
//
// Instances that start at the same time take turns: one migrates, the others wait and then find nothing to do. The lock is an
// advisory lock that is polled, so a waiting instance holds no snapshot and does not block CREATE INDEX CONCURRENTLY. Behind a
// transaction pooler it is a lease in a table. A run that loses its lock ends with [ErrLockLost].
//
// A statement that waits for a table lock blocks every later reader of that table. Migrations therefore run with a short
// lock_timeout. An attempt that times out is rolled back and repeated after a pause, until a time limit ends. The error then
// names the sessions that held the lock.
//
// Each file runs in a transaction with its row in the version table, unless it contains "-- +goose NO TRANSACTION". The
// checksum of each applied file is recorded, and a file that changed later is an error.
//
// # Modes
//
// [ModeRun] applies pending migrations and is the default. [ModeCheck] fails the start when a migration is pending, for
// environments in which a job migrates. [ModeOff] does nothing. The variable DATABASE_MIGRATE_MODE sets the mode; for the
// database "reporting" it is REPORTING_DATABASE_MIGRATE_MODE.
//
// The start context bounds the migrations. Fx gives a start 15 s by default: raise fx.StartTimeout for longer migrations, or
// run them in a job and use ModeCheck.
package migrate

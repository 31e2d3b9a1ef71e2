package fxtest

import (
	"io/fs"
	"testing"
)

// Exports for tests.
var (
	IsStale            = isStale
	DropStaleDatabases = dropStaleDatabases
	NewDatabaseName    = newDatabaseName
	HostTag            = hostTag
	ServerURL          = serverURL
)

// MigrationLocksError returns the error of [MigrationLocks] instead of failing the test.
func MigrationLocksError(tb testing.TB, files, seeds fs.FS) (*LockReport, error) {
	tb.Helper()
	return migrationLocks(tb, files, seeds, &lockSettings{})
}

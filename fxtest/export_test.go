package fxtest

// Exports for tests.
var (
	IsStale            = isStale
	DropStaleDatabases = dropStaleDatabases
	NewDatabaseName    = newDatabaseName
	HostTag            = hostTag
	ServerURL          = serverURL
)

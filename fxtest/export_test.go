package fxtest

// Exports for tests.
var ( //nolint:gochecknoglobals // functions
	IsStale            = isStale
	DropStaleDatabases = dropStaleDatabases
	NewDatabaseName    = newDatabaseName
	HostTag            = hostTag
	ServerURL          = serverURL
)

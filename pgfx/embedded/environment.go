package embedded

import (
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/access"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/postgres"
)

// The environment variables that this package reads. An empty variable counts as unset.
const (
	// EnvURL is RDSFX_POSTGRES_URL, the connection URL of a running server to use instead of starting one.
	EnvURL = postgres.EnvURL
	// EnvBin is RDSFX_POSTGRES_BIN, the directory that contains the server binaries postgres and initdb.
	EnvBin = postgres.EnvBin
	// EnvUser is RDSFX_POSTGRES_USER, the operating-system user who runs the server if this process is root.
	EnvUser = access.EnvUser
	// EnvDatabaseURL is DATABASE_URL, the application's own setting. If it is set, [Module] starts nothing and provides a zero
	// Endpoint.
	EnvDatabaseURL = "DATABASE_URL"
)

// ErrNotFound is matched by the error of a constructor when there is neither a running server nor an installation. The text
// lists where the package searched and how to install PostgreSQL.
var ErrNotFound = postgres.ErrNotFound

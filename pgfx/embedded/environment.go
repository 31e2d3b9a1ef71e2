package embedded

import (
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/access"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/download"
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
	// EnvDownload is RDSFX_POSTGRES_DOWNLOAD, the repository from which server binaries are downloaded if the machine has none,
	// or off, which forbids it. See [Download].
	EnvDownload = download.EnvRepository
	// EnvDownloadVersion is RDSFX_POSTGRES_DOWNLOAD_VERSION, the version to download. See [DownloadVersion].
	EnvDownloadVersion = download.EnvVersion
	// EnvDatabaseURL is DATABASE_URL, the application's own setting. If it is set, [Module] starts nothing and provides a zero
	// Endpoint.
	EnvDatabaseURL = "DATABASE_URL"
)

// ErrNotFound is matched by the error of a constructor when there is neither a running server nor an installation, and downloads
// are forbidden. The text lists where the package searched and how to install PostgreSQL. The error of a start whose download
// failed matches it too.
var ErrNotFound = postgres.ErrNotFound

// Package embedded runs a local PostgreSQL server for development and tests. It finds an installation, starts a server in a
// fraction of a second and removes it when the program ends, even after kill -9.
//
// In an Fx application, put [Module] beside rdsfx.Module: it provides the [pgfx.Endpoint] that rdsfx uses if no address is
// configured. Without Fx, [Start] returns a running [Server]. Test binaries that run at the same time share one server through
// [Shared].
//
// # Which server
//
// The first of these sources that has a server is used. If a variable is set but its value can't be used, that is an error; the
// next source isn't tried.
//
//  1. RDSFX_POSTGRES_URL is the URL of a running server. Nothing is started, and options that configure a server don't apply.
//  2. RDSFX_POSTGRES_BIN is the directory that contains the server binaries postgres and initdb.
//  3. Installed server binaries are searched in PATH, in `pg_config --bindir` and where Debian, Red Hat, SUSE, Alpine, Homebrew,
//     Postgres.app and the Windows installer put them. The newest version wins.
//  4. Server binaries are downloaded at the first start, unless that is forbidden.
//
// If none has a server, the error matches [ErrNotFound] and lists where the package searched and what to install. [Module] also
// reads DATABASE_URL: if it is set, the application already has a database, so the Endpoint is zero and nothing is started.
//
// # Download
//
// On a machine without PostgreSQL, the first start downloads server binaries, 10 to 20 MB. By default they come from Maven Central
// (io.zonky.test.postgres, PostgreSQL 17.6). They are meant for development and tests, not for production.
//
//   - RDSFX_POSTGRES_DOWNLOAD=off forbids downloads. A URL names another repository, in one of two layouts: see [Download].
//   - RDSFX_POSTGRES_DOWNLOAD_VERSION=18.1.0 selects another version.
//   - HTTPS_PROXY, HTTP_PROXY and NO_PROXY apply. The connection is encrypted unless you name an http URL.
//
// The SHA-256 checksum of the archive is compared with the one that the repository publishes beside it. That detects damage, but
// you trust the repository. Paths and links that lead outside the archive are refused, and the binaries are run once before they
// are used.
//
// The binaries are stored in the user's cache directory, beside the templates, or in /var/cache/rdsfx if root starts the server. To
// remove them, delete the directory. Processes that start at once share one download. If a start is interrupted, the next one
// continues the download. With the 15 s that Fx gives a start by default, a slow network can need more than one: see
// fx.StartTimeout.
//
// This is tested with repositories of both layouts on the same machine. It has not been tried with the public repositories.
//
// # Configuration of the server
//
// The server listens on a Unix socket in a private directory. It listens on a TCP port only with the option [TCP]. The encoding
// is UTF8, the locale C, the time zone UTC; superuser and default database are called postgres.
//
// Without the option [Persistent] the data is temporary. It is stored on /dev/shm if there is enough space, otherwise in the
// temp directory. fsync and full_page_writes are off, but synchronous_commit is on: the crash of one backend loses no
// acknowledged transaction. Data directories are copied from a template in the user's cache directory, for which initdb runs
// once.
//
// PostgreSQL refuses to run as root. If the process runs as root, the server runs as another user: the one named by
// RDSFX_POSTGRES_USER, else postgres, else nobody.
//
// # Cleanup
//
// A second process of the same executable, the keeper, owns the server. It learns from a pipe when the program has ended, in
// whatever way, and then stops the server and removes its directory. It runs in its own session: Ctrl-C on a terminal reaches
// the program but not the server, which stays available for an orderly shutdown. If the keeper is killed, Linux stops the
// server, and the program or the next start removes the directory.
//
// The keeper runs during this package's initialization and never reaches main. Packages that are initialized earlier are
// initialized in the keeper too, so side effects of their init functions happen twice.
//
// # Shared servers
//
// [Shared] returns a server that all processes of a user share if they use the same options. The server stops about a second
// after the last of them has ended. The processes find each other through a directory that only their user can access; a
// directory of that name with other permissions is refused.
//
// # Security
//
// Only the server's user can reach the Unix socket, and a client there can log in as any role without a password. If root
// starts the server, other processes of the server's user can reach the socket. Where that matters, set RDSFX_POSTGRES_USER to
// a user who runs nothing else. Over TCP every login requires a password.
package embedded

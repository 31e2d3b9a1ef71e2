// Package embedded runs a local PostgreSQL server for development and tests: it finds one, starts it in a fraction of a
// second and never leaves it behind.
//
// In an Fx application [Module] stands in front of rdsfx.Module and provides the [pgfx.Endpoint] that fills an empty
// address; without Fx, [Start] returns a running [Server]. Test binaries that run at the same time share one server
// through [Shared].
//
// # Which server
//
// The first of these that is there decides. One that is set but can't be used is an error, never a reason to go on:
//
//  1. RDSFX_POSTGRES_URL names a running server. Nothing is started; options that shape a server don't apply.
//  2. RDSFX_POSTGRES_BIN names the directory that holds the programs postgres and initdb.
//  3. Installed programs: PATH, `pg_config --bindir` and the places where Debian, Red Hat, SUSE, Alpine, Homebrew,
//     Postgres.app and the Windows installer put them; the newest version wins.
//
// When there is none, the error (it matches [ErrNotFound]) tells what was looked at and what to install. [Module] also
// looks at DATABASE_URL: when that is set, the application has been told where its database is, so the Endpoint stays
// zero and nothing is started.
//
// # What the server is like
//
// It listens on a Unix socket in a private directory and on no TCP port unless [TCP] asks for one. Encoding UTF8, locale
// C, time zone UTC, superuser and database postgres. Unless [Persistent] gives it a directory it is a throw-away server:
// its data lives on /dev/shm when there is room, else in the temp directory, with fsync and full_page_writes off and
// synchronous_commit on, so that a crash of one backend loses nothing that was acknowledged. Data directories are copied from
// a template that initdb made once, kept in the user's cache directory.
//
// PostgreSQL refuses to run as root. A process that is root runs the server as another user of the system: the one named by
// RDSFX_POSTGRES_USER, else postgres, else nobody.
//
// # Never left behind
//
// The server belongs to a keeper: the same executable, started a second time, which this package's init function
// recognises and which never reaches main. The keeper holds one end of a pipe whose other end closes when the process that
// started it ends, however it ends: then it stops the server and removes its directory. It runs in a session of its own,
// so that Ctrl-C on a terminal reaches the program but not the server, which stays there for an orderly shutdown. On Linux the
// kernel stops the server if the keeper is killed; the program, or the next start, then removes the directory.
//
// Since package initialisation runs in the keeper too, up to this package's, an init function of the program that has effects on
// the outside has them twice.
//
// # Shared servers
//
// Who calls [Shared] first starts a keeper that belongs to nobody: it stays as long as any process of the user holds a lock on a
// lease file, which the kernel frees when a process ends, and a second longer. The processes meet in a directory that only their user
// can enter; another one with the same name is refused.
//
// # Who can get in
//
// The socket lies in a directory that only the server's user can enter; whoever gets there is believed to be any role. When root starts
// the server this is another user of the system, whose own programs can reach it: name one that runs nothing else in
// RDSFX_POSTGRES_USER where that matters. Over TCP every login needs the password.
package embedded

// Package keeper runs PostgreSQL servers in keeper processes.
//
// # Keeper
//
// A keeper is a second process of the same executable that owns one server. It creates the server's directory, starts postgres
// as its child, and removes everything when the server is no longer needed. [Spawn] starts a keeper. This package's init
// function recognizes a keeper by an environment variable and calls [Run] instead of returning, so a keeper never reaches main.
//
// Two pipes connect a keeper to the process that started it. Over one it receives commands: first a [Spec], later perhaps to
// stop. Over the other it sends events. The end of the command pipe means that the process has ended, in whatever way, and the
// keeper stops the server.
//
// # Server directory
//
// Each server has a directory with its socket, its log and, unless the data is persistent, its data directory. The keeper holds
// a lock in it. If the lock is free, the keeper was killed. The next keeper of the same user then sweeps: it kills the server
// if it is still running and removes the directory.
//
// # Shared servers
//
// A shared server is found through the registry, a private directory per user. An [Entry] identifies one shared server by
// everything that affects it. It consists of these files:
//
//   - .election is locked by the process that decides: a client while it searches for the server or starts it, and the keeper while
//     it ends.
//   - .lease is locked, in shared mode, by every process that uses the server ([Lease]).
//   - .keeper is locked by the keeper during its life ([registration]).
//   - .state contains the server's [State].
//
// The operating system releases all locks of a process that ends. Only the holder of the election lock removes files. A shared
// server's keeper isn't connected to a process: it ends when no lease has existed for [IdleTimeout].
//
// Processes of different versions of this package never share anything: the names of the registry and of server directories
// contain the protocol version.
package keeper

// Package postgres finds PostgreSQL's server binaries on this machine and runs them: initdb creates data directories, postgres
// serves them. It neither decides where a server's files go nor how long a server lives; package keeper does.
package postgres

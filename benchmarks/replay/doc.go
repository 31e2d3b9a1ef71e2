// Package replay removes the server from a measurement. A [Tape] first records what a client writes to a real PostgreSQL server
// and the server's replies. Then it replies from memory, without a socket, so that only the cost of the client is measured.
//
// The tape identifies an exchange by the types of its messages, the names and texts of statements, and the formats of
// arguments and results. The transaction state at the start of the exchange counts too. Values of arguments do not matter.
// If an exchange was recorded several times, its replies are played in the order of the recording, repeatedly. An exchange
// that was not recorded fails at once, and [Tape.Err] returns the error.
//
// The tape supports the start of a connection, simple and prepared statements, pipelines, and COPY from the client. The server
// must trust the client. TLS, passwords, cancel requests and LISTEN are not supported.
package replay

// Package replay takes the server out of a measurement. A [Tape] records what a client writes to a real PostgreSQL server and
// what the server answers, once; from then on it answers from memory, without a socket. What is left to measure is what the
// client itself costs.
//
// The tape knows an exchange by its form: the types of its messages, the texts and names of its statements, the formats of
// its arguments and results, and the state of the transaction it begins in; not by the values of arguments. What was recorded
// several times is answered in the order of the recording, over and over. A client that writes what wasn't recorded gets an
// error at once, which [Tape.Err] keeps.
//
// It serves what pgx speaks with a server that trusts it: the start of a connection, simple statements, prepared ones,
// pipelines of them, and COPY from the client. It has no answer for TLS, passwords, cancel requests and LISTEN.
package replay

// Package measure lets the contenders of package contest compete: on one server, on the same rows, with pools of the same
// size, by turns in shuffled rounds, live and replayed. Before anything is measured it makes sure that all of them return and
// store the same.
package measure

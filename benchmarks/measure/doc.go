// Package measure runs the contenders of package contest on one server, on the same rows and with pools of the same size. They
// run by turns in shuffled rounds, live and replayed.
//
// [Server.Check] verifies that all contenders return and store the same.
package measure

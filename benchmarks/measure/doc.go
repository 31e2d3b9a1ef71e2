// Package measure compares the contenders of package contest. They use one server, the same rows and pools of the same size. They
// run in turn, in shuffled rounds, with live and with replayed replies. Before measuring, it checks that all contenders return
// and store the same.
package measure

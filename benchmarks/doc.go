// Package benchmarks compares the library with its peers: hand-written pgx, pgx's mapper, scany, sqlx, bun, GORM and the form
// of code that sqlc generates. It is a separate module, so that users of the library do not inherit their dependencies.
//
// The results are ratios within one run. Package contest has the contenders, package replay removes the server from a
// measurement, and package measure runs the comparison:
//
//	make bench-table
//	make bench BENCH=Contest/op=get
package benchmarks

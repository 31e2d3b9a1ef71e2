// Package benchmarks measures the library side by side with its peers: hand-written pgx, pgx's mapper, scany, sqlx, bun, GORM
// and the form of code that sqlc generates. It is a module of its own, so that nobody who uses the library inherits them.
//
// What counts are ratios within one run. Package contest has the contenders, package replay takes the server out of a
// measurement, and package measure lets them compete:
//
//	make bench-table
//	make bench BENCH=Contest/op=get
package benchmarks

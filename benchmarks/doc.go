// Package benchmarks measures the library side by side with its peers: raw pgx, scany, sqlx, bun and GORM. It is a module
// of its own, so that nobody who uses the library inherits them.
//
// Each benchmark runs all contenders in one process, and what counts is their ratio:
//
//	make bench
package benchmarks

// Package growth measures what becomes of the cost when there is more of something: rows, distinct statements, goroutines
// that want a connection. It draws a picture of each.
package growth

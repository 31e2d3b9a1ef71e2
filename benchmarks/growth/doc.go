// Package growth measures how costs grow with the number of rows, distinct statements, or goroutines that acquire connections. It
// draws a chart of each.
package growth

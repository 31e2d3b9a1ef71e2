// Package cutover moves a live key-value store, such as Redis, to PostgreSQL without losing a write.
package cutover

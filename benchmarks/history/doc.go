// Package history checks histories of transactions for isolation anomalies, after the method of Elle (Kingsbury and Alvaro,
// VLDB 2020). Transactions read lists and append unique values to them. The stored lists then reveal the order of all writes.
// Each read reveals what its transaction depends on. An anomaly is a contradiction or a cycle of dependencies.
//
// The functions are pure. A history may come from any database.
package history

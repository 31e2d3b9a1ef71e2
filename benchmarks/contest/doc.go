// Package contest has the contenders: the same operations on the same table, written with rdsfx and with its peers. Each is
// written as an expert in that library would write it. Package measure does the measuring.
package contest

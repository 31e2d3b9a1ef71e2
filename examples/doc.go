// Package examples holds programs that show what the library does. Each runs by itself:
//
//	go run ./examples/quickstart
//	go run ./examples/validation
package examples

// Package examples contains runnable programs. README.md has the order in which to read them. Each starts a local PostgreSQL,
// which is downloaded if none is installed:
//
//	go run ./examples/quickstart
//	go run ./examples/hello
//	go run ./examples/gettingstarted
//	go run ./examples/multidb
//	go run ./examples/validation
//	go run ./examples/metrics
//	go run ./examples/river
//	go run ./examples/jobservice
//	go run ./examples/rdscheck URL
//	go run ./examples/rediscutover (needs redis-server too)
package examples

// Package examples contains runnable programs. Each needs only an installed PostgreSQL:
//
//	go run ./examples/quickstart
//	go run ./examples/gettingstarted
//	go run ./examples/validation
//	go run ./examples/metrics
//	go run ./examples/river
//	go run ./examples/jobservice
//	go run ./examples/rdscheck URL
package examples

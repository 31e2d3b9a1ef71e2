// Package examples is the module of the example programs, one directory each. They are compiled and linted with the
// library, and the quickstart is run with it, so that what they show stays true:
//
//	go run ./examples/quickstart
package examples

import _ "github.com/rdsfx-go/rdsfx/pgfx" // the module's requirement, until the first program has it

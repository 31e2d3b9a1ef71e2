//go:build !linux

package embedded_test

// runProgram reports that this process runs tests: the end of test programs can be observed on Linux only.
func runProgram() bool { return false }

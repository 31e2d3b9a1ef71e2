//go:build !linux

package embedded_test

// play reports that this process is the test: roles end in ways that can only be watched on Linux.
func play() bool { return false }

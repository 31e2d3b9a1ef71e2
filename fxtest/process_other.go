//go:build !unix

package fxtest

import "os"

// processAlive reports whether a process of this host exists.
func processAlive(pid int) bool {
	process, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	_ = process.Release() // only a handle
	return true
}

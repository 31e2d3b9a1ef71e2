//go:build !unix

package fxtest

import "os"

// processAlive reports whether a process exists on this host.
func processAlive(pid int) bool {
	process, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	_ = process.Release() // the process keeps running
	return true
}

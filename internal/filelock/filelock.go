// Package filelock takes advisory locks on open files. The operating system releases a lock when its process ends, even after
// kill -9. A free lock therefore proves that its holder is gone.
package filelock

import (
	"context"
	"os"
	"time"
)

// retryInterval is the time between two attempts to take a lock that another process holds.
const retryInterval = 5 * time.Millisecond

// Wait takes a lock on file, shared or exclusive. It retries until ctx ends and then returns ctx's cause.
func Wait(ctx context.Context, file *os.File, exclusive bool) error {
	ticker := time.NewTicker(retryInterval)
	defer ticker.Stop()
	for {
		locked, err := Try(file, exclusive)
		if err != nil || locked {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// Release unlocks file and closes it. Closing alone is not enough: between fork and exec, a child process holds a copy of the
// descriptor, and with it the lock.
func Release(file *os.File) {
	_ = Unlock(file)
	_ = file.Close()
}

// IsCurrent reports whether file is still the file that its name refers to. A process that waited for a lock may have received
// the lock of a file that was removed meanwhile.
func IsCurrent(file *os.File) bool {
	held, err := file.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(file.Name())
	return err == nil && os.SameFile(held, named)
}

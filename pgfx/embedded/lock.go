package embedded

import (
	"context"
	"os"
	"time"
)

// lockPause is the time between two attempts to get a lock that somebody else holds.
const lockPause = 5 * time.Millisecond

// waitLock takes a lock on file, waiting for it until ctx ends.
func waitLock(ctx context.Context, file *os.File, exclusive bool) error {
	ticker := time.NewTicker(lockPause)
	defer ticker.Stop()
	for {
		got, err := tryLock(file, exclusive)
		if err != nil || got {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// giveUp frees the lock of a file and closes it. Closing alone is not enough: a child that is just being started has a copy of
// the descriptor until it has become another program, and the lock with it.
func giveUp(file *os.File) {
	_ = unlock(file)
	_ = file.Close()
}

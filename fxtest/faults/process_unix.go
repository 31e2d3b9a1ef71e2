//go:build unix

package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// freezeServer stops the postmaster and its children and waits until they have stopped. It stops the postmaster first, so no
// new child starts in the meantime, and returns the process IDs in that order.
func freezeServer(ctx context.Context, postmaster int) ([]int, error) {
	if err := freezeProcess(ctx, postmaster); err != nil {
		return nil, err
	}
	frozen := append([]int{postmaster}, children(postmaster)...)
	for _, pid := range frozen[1:] {
		if err := freezeProcess(ctx, pid); err != nil {
			return frozen, err
		}
	}
	return frozen, nil
}

func freezeProcess(ctx context.Context, pid int) error {
	if err := signalProcess(pid, syscall.SIGSTOP); err != nil {
		return err
	}
	for !stopped(pid) {
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("process %d has not stopped: %w", pid, context.Cause(ctx))
		}
	}
	return nil
}

// thawServer resumes the processes, the postmaster last.
func thawServer(frozen []int) error {
	var errs []error
	for i := range frozen {
		errs = append(errs, signalProcess(frozen[len(frozen)-1-i], syscall.SIGCONT))
	}
	return errors.Join(errs...)
}

// killServer kills the postmaster and its children. It freezes them first, so none can react to the death of another.
func killServer(ctx context.Context, postmaster int) error {
	all, err := freezeServer(ctx, postmaster)
	errs := []error{err, signalProcess(postmaster, syscall.SIGKILL)}
	for _, pid := range all {
		errs = append(errs, signalProcess(pid, syscall.SIGKILL))
	}
	return errors.Join(errs...)
}

// signalProcess sends a signal. It ignores processes that have exited.
func signalProcess(pid int, signal syscall.Signal) error {
	if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("send %s to process %d: %w", signal, pid, err)
	}
	return nil
}

// hasMmap reports whether servers can have their dynamic shared memory in mapped files.
const hasMmap = true

// copyOwner makes the owner of another file the owner of path. It is needed, and permitted, only for root.
func copyOwner(info os.FileInfo, path string) error {
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return nil
	}
	return os.Lchown(path, int(owner.Uid), int(owner.Gid))
}

// freeSpace returns the free bytes of a directory, or 0 if it is not writable.
func freeSpace(dir string) uint64 {
	var stat unix.Statfs_t
	if unix.Access(dir, unix.W_OK) != nil || unix.Statfs(dir, &stat) != nil {
		return 0
	}
	return stat.Bavail * uint64(stat.Bsize) //nolint:gosec // a size is not negative
}

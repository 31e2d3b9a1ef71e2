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

// freezeServer stops the postmaster and then its children, so that none comes to be meanwhile, and returns them all, the
// postmaster first. It returns when they have stopped.
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
			return fmt.Errorf("process %d doesn't stop: %w", pid, context.Cause(ctx))
		}
	}
	return nil
}

// thawServer lets the processes go on, the postmaster last.
func thawServer(frozen []int) error {
	var errs []error
	for i := range frozen {
		errs = append(errs, signalProcess(frozen[len(frozen)-1-i], syscall.SIGCONT))
	}
	return errors.Join(errs...)
}

// killServer ends the postmaster and its children as a crash of the machine would.
func killServer(ctx context.Context, postmaster int) error {
	all, err := freezeServer(ctx, postmaster)
	errs := []error{err, signalProcess(postmaster, syscall.SIGKILL)}
	for _, pid := range all {
		errs = append(errs, signalProcess(pid, syscall.SIGKILL))
	}
	return errors.Join(errs...)
}

// signalProcess sends a signal; a process that is gone needs none.
func signalProcess(pid int, signal syscall.Signal) error {
	if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("send %s to process %d: %w", signal, pid, err)
	}
	return nil
}

// canLock tells that a lock says whether its owner lives.
const canLock = true

// lockFile takes a lock that the kernel frees at the end of the process, and reports whether it was free.
func lockFile(file *os.File) bool {
	return unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil
}

// giveLike gives path to the owner of another file. Only root may, and only root has to.
func giveLike(info os.FileInfo, path string) error {
	like, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return nil
	}
	return os.Lchown(path, int(like.Uid), int(like.Gid))
}

// roomIn returns how many bytes are free in a directory that can be written to, 0 when there is none.
func roomIn(dir string) uint64 {
	var stat unix.Statfs_t
	if unix.Access(dir, unix.W_OK) != nil || unix.Statfs(dir, &stat) != nil {
		return 0
	}
	return stat.Bavail * uint64(stat.Bsize) //nolint:gosec // a size is not negative
}

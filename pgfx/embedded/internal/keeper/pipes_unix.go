//go:build unix

package keeper

import (
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// The file descriptors of a keeper's pipes.
const (
	commandsDescriptor = 3
	eventsDescriptor   = 4
)

// passPipes prepares cmd to run a keeper that uses these pipes.
func passPipes(cmd *exec.Cmd, commands, events *os.File) {
	// Standard input and output are the null device. If the keeper held the parent's output open, `go test` and shell pipes
	// would wait for it.
	cmd.ExtraFiles = []*os.File{commands, events}
	cmd.Dir = "/"
	// Ctrl-C signals the terminal's process group. A separate session protects the keeper from it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
}

// inheritedPipes returns the keeper's pipes. ok is false if this process wasn't started as a keeper.
func inheritedPipes() (commands, events *os.File, ok bool) {
	for _, fd := range []int{commandsDescriptor, eventsDescriptor} {
		var stat unix.Stat_t
		if err := unix.Fstat(fd, &stat); err != nil || stat.Mode&unix.S_IFMT != unix.S_IFIFO {
			return nil, nil, false
		}
		unix.CloseOnExec(fd)
	}
	return os.NewFile(commandsDescriptor, "commands"), os.NewFile(eventsDescriptor, "events"), true
}

// detachFromParent closes the descriptors that the parent has itself inherited, because a shell or test runner may wait for
// their end. It discards standard error, which up to here reported failures of the executable.
func detachFromParent() {
	if null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0); err == nil {
		_ = unix.Dup2(int(null.Fd()), 2)
		_ = null.Close()
	}
	entries, err := os.ReadDir("/dev/fd")
	if err != nil {
		return
	}
	for _, entry := range entries {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil || fd <= 2 {
			continue
		}
		// Go opens all files with close-on-exec, so a descriptor without it was inherited.
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			_ = unix.Close(fd)
		}
	}
}

// terminationSignals returns a channel that receives SIGTERM, which ends a keeper. The signals of a terminal don't end it.
func terminationSignals() <-chan os.Signal {
	// Received and discarded rather than ignored: child processes would inherit that a signal is ignored.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM)
	return terminate
}

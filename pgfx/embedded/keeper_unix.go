//go:build unix

package embedded

import (
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// The descriptors of a keeper's pipes.
const (
	ordersDescriptor = 3
	eventsDescriptor = 4
)

// dressKeeper prepares cmd to become a keeper that talks over orders and events.
func dressKeeper(cmd *exec.Cmd, orders, events *os.File) {
	// Without files, standard input and output are the null device: a keeper that held the program's output open would keep `go test`
	// and every shell pipe waiting.
	cmd.ExtraFiles = []*os.File{orders, events}
	cmd.Dir = "/"
	// A session of its own: Ctrl-C goes to the process group of the terminal.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
}

// keeperPipes returns the pipes of a keeper, and false when this process wasn't started as one.
func keeperPipes() (orders, events *os.File, ok bool) {
	for _, fd := range []int{ordersDescriptor, eventsDescriptor} {
		var stat unix.Stat_t
		if err := unix.Fstat(fd, &stat); err != nil || stat.Mode&unix.S_IFMT != unix.S_IFIFO {
			return nil, nil, false
		}
		unix.CloseOnExec(fd)
	}
	return os.NewFile(ordersDescriptor, "orders"), os.NewFile(eventsDescriptor, "events"), true
}

// settleKeeper cuts the ties to the process that started the keeper. Descriptors that weren't closed on exec came from there: a
// shell or a test runner may wait for their end. Standard error was for what went wrong up to here.
func settleKeeper() {
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
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			_ = unix.Close(fd)
		}
	}
}

// terminations delivers the signals that end a keeper at once. The terminal's don't: it has none, and a hangup isn't meant for it.
func terminations() <-chan os.Signal {
	// Taken and never read rather than ignored: children would inherit that.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM)
	return terminate
}

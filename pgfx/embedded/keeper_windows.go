package embedded

import (
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

const detachedProcess = 0x00000008

// dressKeeper prepares cmd to become a keeper that talks over orders and events.
func dressKeeper(cmd *exec.Cmd, orders, events *os.File) {
	cmd.Stdin, cmd.Stdout = orders, events
	// No console: Ctrl-C goes to everybody on it.
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: detachedProcess | syscall.CREATE_NEW_PROCESS_GROUP, HideWindow: true}
}

// keeperPipes returns the pipes of a keeper.
func keeperPipes() (orders, events *os.File, ok bool) { return os.Stdin, os.Stdout, true }

func settleKeeper() {}

func terminations() <-chan os.Signal {
	signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	return nil
}

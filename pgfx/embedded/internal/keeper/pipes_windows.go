package keeper

import (
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

const detachedProcess = 0x00000008

// passPipes prepares cmd to run a keeper that uses these pipes.
func passPipes(cmd *exec.Cmd, commands, events *os.File) {
	cmd.Stdin, cmd.Stdout = commands, events
	// Ctrl-C signals all processes of a console, so the keeper has none.
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: detachedProcess | syscall.CREATE_NEW_PROCESS_GROUP, HideWindow: true}
}

// inheritedPipes returns the keeper's pipes.
func inheritedPipes() (commands, events *os.File, ok bool) { return os.Stdin, os.Stdout, true }

func detachFromParent() {}

func terminationSignals() <-chan os.Signal {
	signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	return nil
}

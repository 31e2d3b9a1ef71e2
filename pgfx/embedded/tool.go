package embedded

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// tailLines is how much of a program's output an error quotes.
const tailLines = 12

// runTool runs cmd to its end as user; the kernel sends it onDeath if this process dies meanwhile.
func runTool(cmd *exec.Cmd, user *osUser, onDeath syscall.Signal) error {
	dress(cmd, user, onDeath)
	cmd.WaitDelay = 5 * time.Second
	done := make(chan error, 1)
	go func() {
		// The signal at the parent's death belongs to the thread (prctl(2)): it must live as long as the child. It is never
		// unlocked, and so ends with the goroutine.
		runtime.LockOSThread()
		done <- cmd.Run()
	}()
	return explainStart(<-done, cmd.Path, user)
}

// dress sets what all programs of the server have in common.
func dress(cmd *exec.Cmd, user *osUser, onDeath syscall.Signal) {
	cmd.Env = serverEnviron(os.Environ())
	// A directory that the user can enter, and that no file system needs for being unmounted.
	cmd.Dir = filepath.VolumeName(cmd.Path) + string(filepath.Separator)
	cmd.SysProcAttr = childAttr(user, onDeath)
}

// explainStart adds to an error of starting a program what it usually means.
func explainStart(err error, program string, user *osUser) error {
	if err == nil || user == nil || !errors.Is(err, os.ErrPermission) {
		return err
	}
	if why := reachable(filepath.Dir(program), user); why != nil {
		return fmt.Errorf("%w (%w: make it enterable, or name another user in %s)", err, why, EnvUser)
	}
	return fmt.Errorf("%w (is this process allowed to run programs as user %s?)", err, user.Name)
}

// quoteTail returns the last lines of a program's output, ready to be put behind an error.
func quoteTail(output string) string {
	lines := strings.Split(strings.TrimSpace(output), "\n")
	if len(lines) == 1 && lines[0] == "" {
		return ""
	}
	if len(lines) > tailLines {
		lines = lines[len(lines)-tailLines:]
	}
	return ":\n  " + strings.Join(lines, "\n  ")
}

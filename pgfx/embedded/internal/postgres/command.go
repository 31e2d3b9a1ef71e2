package postgres

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

	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/access"
)

// quotedLines is the number of lines of a program's output that an error quotes.
const quotedLines = 12

// run runs cmd as user and waits for it. If this process dies first, Linux sends the signal parentDeath to the child.
func run(cmd *exec.Cmd, user *access.User, parentDeath syscall.Signal) error {
	prepare(cmd, user, parentDeath)
	cmd.WaitDelay = 5 * time.Second
	done := make(chan error, 1)
	go func() {
		// The parent-death signal is tied to the thread that started the child (prctl(2)), so the thread must outlive the
		// child. The goroutine never unlocks it, so the thread ends with the goroutine.
		runtime.LockOSThread()
		done <- cmd.Run()
	}()
	return explainStartError(<-done, cmd.Path, user)
}

// prepare sets what all server binaries have in common.
func prepare(cmd *exec.Cmd, user *access.User, parentDeath syscall.Signal) {
	cmd.Env = serverEnviron(os.Environ())
	// The root directory is accessible to user, and no file system is kept busy.
	cmd.Dir = filepath.VolumeName(cmd.Path) + string(filepath.Separator)
	cmd.SysProcAttr = childAttr(user, parentDeath)
}

// explainStartError adds the likely cause to a permission error.
func explainStartError(err error, program string, user *access.User) error {
	if err == nil || user == nil || !errors.Is(err, os.ErrPermission) {
		return err
	}
	if cause := access.CheckReachable(filepath.Dir(program), user); cause != nil {
		return fmt.Errorf("%w (%w: run chmod o+x, or name another user in %s)", err, cause, access.EnvUser)
	}
	return fmt.Errorf("%w (is this process allowed to run programs as user %s?)", err, user.Name)
}

// QuoteTail formats the last lines of a program's output as a suffix for an error. It is empty if there is no output.
func QuoteTail(output string) string {
	lines := strings.Split(strings.TrimSpace(output), "\n")
	if len(lines) == 1 && lines[0] == "" {
		return ""
	}
	if len(lines) > quotedLines {
		lines = lines[len(lines)-quotedLines:]
	}
	return ":\n  " + strings.Join(lines, "\n  ")
}

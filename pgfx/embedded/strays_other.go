//go:build !linux

package embedded

import (
	"os/exec"
	"runtime"
	"strconv"
	"strings"
)

// strays lists the processes of the server of a data directory. Here only the postmaster can be told from strangers, by its
// command line; its children end by themselves when it is gone.
func strays(data string) []int {
	note, err := readPIDFile(data)
	if err != nil || runtime.GOOS == "windows" {
		return nil
	}
	line, err := exec.Command("ps", "-o", "command=", "-p", strconv.Itoa(note.pid)).Output() //nolint:gosec,noctx // a number; ps ends at once
	if err != nil || !strings.Contains(string(line), "postgres") || !strings.Contains(string(line), data) {
		return nil
	}
	return []int{note.pid}
}

// freeSegment leaves the few bytes of a killed server's segment: there is no portable way to tell that nobody uses it.
func freeSegment(_, _ int) {}

// worksIn reports whether a process stands in a data directory, which can't be seen here: it is believed to.
func worksIn(string, int) bool { return true }

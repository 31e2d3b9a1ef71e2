package embedded

import (
	"os/exec"
	"strconv"

	"golang.org/x/sys/windows"
)

// signalServer asks the postmaster to shut down: there are no signals here, PostgreSQL has its own.
func signalServer(p *postgres, how shutdown) error {
	name := "QUIT"
	if how == fast {
		name = "INT"
	}
	return exec.Command(p.install.program("pg_ctl"), "kill", name, strconv.Itoa(p.pid())).Run() //nolint:gosec,noctx // the program that was resolved; it ends at once
}

// processAlive reports whether a process with this number exists.
func processAlive(pid int) bool {
	handle, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, uint32(pid))
	if err != nil {
		return false
	}
	defer func() { _ = windows.CloseHandle(handle) }()
	var code uint32
	const stillActive = 259
	return windows.GetExitCodeProcess(handle, &code) == nil && code == stillActive
}

func killProcess(int) {}

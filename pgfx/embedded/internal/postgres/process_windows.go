package postgres

import (
	"os/exec"
	"strconv"

	"golang.org/x/sys/windows"
)

// signalShutdown requests a shutdown of the server in the given mode. Windows has no signals; pg_ctl emulates them.
func signalShutdown(s *Server, mode ShutdownMode) error {
	name := "QUIT"
	if mode == Fast {
		name = "INT"
	}
	return exec.Command(s.installation.Binary("pg_ctl"), "kill", name, strconv.Itoa(s.PID())).Run() //nolint:gosec,noctx // a server binary that ends immediately
}

// processExists reports whether a process with this id exists.
func processExists(pid int) bool {
	handle, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, uint32(pid))
	if err != nil {
		return false
	}
	defer func() { _ = windows.CloseHandle(handle) }()
	var code uint32
	const stillActive = 259
	return windows.GetExitCodeProcess(handle, &code) == nil && code == stillActive
}

// killProcess does nothing: leftoverProcesses finds no process on Windows.
func killProcess(int) {}

//go:build unix && !linux

package faults

import (
	"os/exec"
	"strconv"
	"strings"
)

// ps returns the given columns for all processes.
func ps(columns string) [][]string {
	out, err := exec.Command("ps", "-axo", columns).Output() //nolint:gosec,noctx // constant arguments; ps exits immediately
	if err != nil {
		return nil
	}
	var rows [][]string
	for line := range strings.Lines(string(out)) {
		rows = append(rows, strings.Fields(line))
	}
	return rows
}

// children returns the child processes of a process.
func children(pid int) []int {
	var found []int
	for _, row := range ps("pid=,ppid=") {
		if len(row) != 2 || row[1] != strconv.Itoa(pid) {
			continue
		}
		if child, err := strconv.Atoi(row[0]); err == nil {
			found = append(found, child)
		}
	}
	return found
}

// stopped reports whether a process is stopped or has exited.
func stopped(pid int) bool {
	for _, row := range ps("pid=,state=") {
		if len(row) == 2 && row[0] == strconv.Itoa(pid) {
			return strings.HasPrefix(row[1], "T") || strings.HasPrefix(row[1], "Z")
		}
	}
	return true
}

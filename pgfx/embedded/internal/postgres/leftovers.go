package postgres

import (
	"os"
	"time"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/access"
)

// KillTimeout is how long killed processes may take to disappear.
const KillTimeout = 5 * time.Second

// KillLeftovers kills every server process of dataDir and frees their shared memory. After an orderly shutdown it finds
// nothing.
func KillLeftovers(dataDir string) {
	segment := -1
	if file, err := ReadPIDFile(dataDir); err == nil {
		segment = file.SharedMemoryID
	}
	timeout, ticker := time.NewTimer(KillTimeout), time.NewTicker(pollInterval)
	defer timeout.Stop()
	defer ticker.Stop()
waiting:
	for pids := Processes(dataDir); len(pids) > 0; pids = Processes(dataDir) {
		for _, pid := range pids {
			killProcess(pid)
		}
		select {
		case <-ticker.C:
		case <-timeout.C:
			break waiting
		}
	}
	if info, err := os.Stat(dataDir); err == nil {
		if owner, known := access.Owner(info); known {
			removeSharedMemory(segment, owner)
		}
	}
}

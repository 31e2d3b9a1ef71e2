package keeper

import (
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// temporarySettings trade durability for speed. synchronous_commit stays on: without it, the crash of one backend loses
// acknowledged transactions.
var temporarySettings = map[string]string{
	"fsync":              "off",
	"full_page_writes":   "off",
	"synchronous_commit": "on",
	"timezone":           "UTC",
	"log_timezone":       "UTC",
}

// serverArgs returns the command-line arguments of the server, sorted by setting.
func (s Spec) serverArgs() []string {
	settings := make(map[string]string)
	if runtime.GOOS != "windows" {
		// In the data directory, shared memory is removed with it or at the next start. On /dev/shm, a killed server would
		// leave it.
		settings["dynamic_shared_memory_type"] = "mmap"
	}
	if !s.Persistent {
		maps.Copy(settings, temporarySettings)
	}
	maps.Copy(settings, s.Settings)
	settings["listen_addresses"] = ""
	if s.TCP {
		settings["listen_addresses"] = loopback
	}
	settings["port"] = strconv.Itoa(s.Port)
	settings["unix_socket_directories"] = `"` + strings.ReplaceAll(socketDir(s.Dir), `"`, `""`) + `"`
	settings["hba_file"] = hbaFile(s.Dir)
	settings["logging_collector"] = "off"
	settings["log_destination"] = "stderr"
	var args []string
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", name+"="+settings[name])
	}
	return args
}

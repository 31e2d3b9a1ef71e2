package keeper

import (
	"fmt"
	"io"
	"time"

	"github.com/rdsfx-go/rdsfx/internal/redact"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/access"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/postgres"
)

const (
	// protocolVersion changes with the commands, the events and the files that processes exchange.
	protocolVersion = "2"
	// envKeeper is the environment variable that marks a process as a keeper. Its value is protocolVersion.
	envKeeper = "RDSFX_EMBEDDED_KEEPER"
	// dirPrefix starts the names of all directories that this package creates.
	dirPrefix = "rdsfx-v" + protocolVersion + "-"
)

// Password is the superuser's password. All fmt verbs print a mask.
type Password string

// Format implements [fmt.Formatter].
func (Password) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, redact.Mask) }

// Spec is everything a keeper needs to know about its server. The process that starts the keeper makes all decisions.
type Spec struct {
	Installation postgres.Installation `json:"installation"`
	// User runs the server. Nil is the keeper's own user.
	User *access.User `json:"user"`
	// Dir is the server directory, which the keeper creates and removes.
	Dir string `json:"dir"`
	// DataDir is in Dir, or anywhere if Persistent is set.
	DataDir    string `json:"data_dir"`
	Persistent bool   `json:"persistent"`
	// RemoveWhenOrphaned lists the paths to remove if the owner ends without stopping the server.
	RemoveWhenOrphaned []string          `json:"remove_when_orphaned,omitempty"`
	Settings           map[string]string `json:"settings"`
	Port               int               `json:"port"`
	TCP                bool              `json:"tcp"`
	Password           Password          `json:"password"`
	CacheDirs          []string          `json:"cache_dirs"`
	// SweepDirs lists the directories that may contain server directories of killed keepers.
	SweepDirs []string `json:"sweep_dirs"`
	// Shared is the registry entry of a shared server. It is nil if the server belongs to the process that started it.
	Shared *Entry `json:"shared,omitempty"`
}

// orphanPlan returns how to stop the server when its owner has ended. A temporary server has nothing to save. A shared server
// must be gone three seconds after its last lease. A persistent server should not need recovery.
func (s Spec) orphanPlan() postgres.StopPlan {
	switch {
	case s.Persistent && len(s.RemoveWhenOrphaned) == 0:
		return postgres.StopPlan{Fast: time.Minute, Immediate: 10 * time.Second}
	case s.Shared != nil:
		return postgres.StopPlan{Fast: time.Second, Immediate: 500 * time.Millisecond}
	default:
		return postgres.StopPlan{Fast: 2 * time.Second, Immediate: 2 * time.Second}
	}
}

// command is what a keeper receives: first a Spec, then at most one stop.
type command struct {
	Spec *Spec              `json:"spec,omitempty"`
	Stop *postgres.StopPlan `json:"stop,omitempty"`
}

// The kinds of events that a keeper sends.
const (
	eventHello   = "hello"   // the process has become a keeper
	eventReady   = "ready"   // the server accepts connections
	eventStopped = "stopped" // the server was stopped on request, and its directory is removed
	eventFailed  = "failed"  // the server didn't start or ended unexpectedly; its directory is removed
)

// event is one line of JSON that a keeper sends.
type event struct {
	Kind  string                `json:"kind"`
	PID   int                   `json:"pid,omitempty"`
	Mode  postgres.ShutdownMode `json:"mode,omitempty"`
	Error string                `json:"error,omitempty"`
	// LostElection reports that another keeper already runs the shared server.
	LostElection bool `json:"lost_election,omitempty"`
}

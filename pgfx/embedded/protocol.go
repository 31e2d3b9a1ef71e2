package embedded

import "time"

const (
	// keeperVariable tells this executable that it is started as a keeper; its value is the version of the protocol.
	keeperVariable = "RDSFX_EMBEDDED_KEEPER"
	keeperProtocol = "1"

	loopback = "127.0.0.1"
)

// spec is everything that a keeper needs to know. The process that starts it decides; the keeper does.
type spec struct {
	Install installation `json:"install"`
	// User runs the server; nil is the keeper's own user.
	User *osUser `json:"user"`
	// Dir is the server's own directory, which the keeper makes and removes.
	Dir string `json:"dir"`
	// Data is the data directory: in Dir, or a persistent one elsewhere.
	Data       string `json:"data"`
	Persistent bool   `json:"persistent"`
	// Orphaned lists what is removed when the process that asked for the server has ended without stopping it.
	Orphaned []string          `json:"orphaned,omitempty"`
	Settings map[string]string `json:"settings"`
	Port     int               `json:"port"`
	TCP      bool              `json:"tcp"`
	Password string            `json:"password"`
	Caches   []string          `json:"caches"`
	// Sweep lists the directories in which servers of processes that were killed may lie.
	Sweep []string `json:"sweep"`
	// Meeting is where the users of a shared server find it; nil for one that belongs to the process that started it.
	Meeting *meeting `json:"meeting,omitempty"`
}

// order is what the keeper is told: first a spec, then perhaps to stop. The end of the pipe is an order too.
type order struct {
	Spec *spec     `json:"spec,omitempty"`
	Stop *stopPlan `json:"stop,omitempty"`
}

// What a keeper reports.
const (
	eventHello   = "hello"   // the executable recognised itself as a keeper
	eventReady   = "ready"   // the server accepts connections
	eventStopped = "stopped" // the server was stopped as ordered, and its directory is gone
	eventFailed  = "failed"  // the server could not be started, or ended by itself; nothing is left of it
)

// event is a line that the keeper writes.
type event struct {
	Kind  string   `json:"kind"`
	PID   int      `json:"pid,omitempty"`
	How   shutdown `json:"how,omitempty"`
	Error string   `json:"error,omitempty"`
	// Taken tells that another keeper was faster to keep a shared server.
	Taken bool `json:"taken,omitempty"`
}

// orphanPlan returns how the server is stopped when nobody can say any more: a throw-away one is not worth waiting for, a shared one
// must be gone three seconds after its last user, a persistent one is spared the recovery.
func (s spec) orphanPlan() stopPlan {
	switch {
	case s.Persistent && len(s.Orphaned) == 0:
		return stopPlan{Fast: time.Minute, Immediate: 10 * time.Second}
	case s.Meeting != nil:
		return stopPlan{Fast: time.Second, Immediate: 500 * time.Millisecond}
	default:
		return stopPlan{Fast: 2 * time.Second, Immediate: 2 * time.Second}
	}
}

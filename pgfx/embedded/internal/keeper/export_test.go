package keeper

import "github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/postgres"

// These names expose unexported functions to tests.
var (
	KeeperEnviron = keeperEnviron
	NewDirName    = newDirName
	SweepLocation = sweepLocation
)

// LocationsIn returns locations in dirs, of which memory needs free bytes of space.
func LocationsIn(l Locations, memory string, free uint64, dirs ...string) Locations {
	l.memory, l.memoryNeeded, l.candidates = memory, free, dirs
	return l
}

// PanicError returns what a keeper reports when it panics.
func PanicError() error {
	_, err := recovered(func() (postgres.ShutdownMode, error) { panic("on purpose") })
	return err
}

// CreateServerDir creates the directory of a server whose keeper is killed when kill is called.
func CreateServerDir(s Spec) (kill func() error, err error) {
	dir, err := createServerDir(s)
	if err != nil {
		return nil, err
	}
	return dir.lock.Close, nil
}

// ServerConfig returns how the keeper of s starts its server.
func ServerConfig(s Spec) postgres.Config { return (&keeper{spec: s}).serverConfig() }

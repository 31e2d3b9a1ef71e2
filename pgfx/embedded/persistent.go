package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// claimCluster makes sure that the persistent data directory is a cluster that this server can run and that nobody else runs,
// and makes the cluster when there is none. The directory is claimed until the returned file is closed.
func claimCluster(ctx context.Context, s spec) (claim *os.File, err error) {
	if err := os.MkdirAll(filepath.Dir(s.Data), 0o755); err != nil { //nolint:gosec // parents that the server's user must be able to enter
		return nil, err
	}
	if err := os.Mkdir(s.Data, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	if err := reachable(filepath.Dir(s.Data), s.User); err != nil {
		return nil, fmt.Errorf("data directory %s: %w: let others enter it (chmod o+x), or choose a directory elsewhere", s.Data, err)
	}
	claim, err = os.Open(s.Data)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			giveUp(claim)
		}
	}()
	if err := awaitClaim(ctx, s.Data, claim); err != nil {
		return nil, err
	}
	entries, err := claim.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	if len(entries) == 0 {
		if err := (cluster{install: s.Install, user: s.User}).initdb(ctx, s.Data, nil); err != nil {
			// What an initdb that had to be killed has left would look like a cluster.
			return claim, errors.Join(err, emptyDir(s.Data))
		}
		return claim, nil
	}
	return claim, checkCluster(s)
}

// awaitClaim takes the lock of a data directory. Whoever sweeps holds it for a moment; a server that has it is soon seen to run.
func awaitClaim(ctx context.Context, data string, claim *os.File) error {
	limit, cancel := context.WithTimeout(ctx, goneLimit)
	defer cancel()
	ticker := time.NewTicker(lockPause)
	defer ticker.Stop()
	for {
		// Where the file system has no locks, the server's own pid file has to do.
		if free, err := tryLock(claim, true); err != nil || free {
			return nil
		}
		if pid, runs := serverIn(data); runs {
			return usedBy(data, pid)
		}
		select {
		case <-limit.Done():
			return fmt.Errorf("data directory %s is used by another process that starts or stops a server: "+
				"wait for it, or choose another directory", data)
		case <-ticker.C:
		}
	}
}

// checkCluster tells why an existing data directory can't be used.
func checkCluster(s spec) error {
	text, err := os.ReadFile(filepath.Join(s.Data, "PG_VERSION"))
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("data directory %s is neither empty nor a PostgreSQL cluster: choose another directory", s.Data)
	}
	if err != nil {
		return err
	}
	if major := strings.TrimSpace(string(text)); major != strconv.Itoa(s.Install.Major) {
		return fmt.Errorf("data directory %s was made by PostgreSQL %s, the server is PostgreSQL %d (%s): choose another directory, set %s to the programs of version %s, or move the data with pg_upgrade",
			s.Data, major, s.Install.Major, s.Install.BinDir, EnvBin, major)
	}
	if err := checkRunning(s.Data); err != nil {
		return err
	}
	return checkOwner(s)
}

// checkRunning tells whether another server runs in the data directory, which the caller has claimed. The server itself only looks
// whether the process of its pid file exists, and so takes a process that has ended and that nobody has waited for, or another
// program that got its number, for a server. That file is removed when nobody works there.
func checkRunning(data string) error {
	pid, runs := serverIn(data)
	switch {
	case runs:
		return usedBy(data, pid)
	case pid != 0:
		return os.Remove(filepath.Join(data, "postmaster.pid"))
	default:
		return nil
	}
}

// serverIn returns the process that the data directory's pid file names, if it exists, and whether a server runs there.
func serverIn(data string) (pid int, runs bool) {
	note, err := readPIDFile(data)
	if err != nil || !processAlive(note.pid) {
		return 0, false
	}
	return note.pid, worksIn(data, note.pid) || len(strays(data)) > 0
}

func usedBy(data string, pid int) error {
	return fmt.Errorf("data directory %s is used by a running server (process %d, says its postmaster.pid): "+
		"stop it, or choose another directory", data, pid)
}

func checkOwner(s spec) error {
	info, err := os.Stat(s.Data)
	if err != nil {
		return err
	}
	owner, known := ownerOf(info)
	want := os.Geteuid()
	if s.User != nil {
		want = s.User.UID
	}
	if !known || owner == want {
		return nil
	}
	name := strconv.Itoa(owner)
	if found, err := user.LookupId(name); err == nil {
		name = found.Username
	}
	if s.User != nil {
		return fmt.Errorf("data directory %s belongs to the user %s, the server runs as %s: set %s=%s", s.Data, name, s.User.Name, EnvUser, name)
	}
	return fmt.Errorf("data directory %s belongs to the user %s: run as that user, or choose another directory", s.Data, name)
}

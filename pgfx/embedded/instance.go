package embedded

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// bornLimit is the age at which a directory without a lock can't be one that is just being made.
	bornLimit = time.Minute
	// goneLimit is how long processes that were killed are waited for.
	goneLimit = 5 * time.Second
)

// note is what a server's directory tells about the server to whoever finds it without its keeper.
type note struct {
	Data string `json:"data"`
}

// instance is a server's directory, locked for as long as its keeper lives.
type instance struct {
	dir  string
	lock *os.File
}

// makeDir makes the directory of the server that s describes and what is in it besides the data.
func makeDir(s spec) (held *instance, err error) {
	err = os.Mkdir(s.Dir, 0o700)
	if errors.Is(err, os.ErrExist) {
		// A server is started again whose keeper was killed the first time.
		sweepDir(s.Dir)
		err = os.Mkdir(s.Dir, 0o700)
	}
	if err != nil {
		return nil, fmt.Errorf("make the server's directory: %w", err)
	}
	held = &instance{dir: s.Dir}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("make the server's directory: %w", err), held.remove())
		}
	}()
	// The lock appears under its name when it is held already, so that a lock that is free means that its keeper is dead.
	held.lock, err = os.OpenFile(lockFile(s.Dir)+".new", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return held, err
	}
	if _, err := tryLock(held.lock, true); err != nil {
		return held, err
	}
	if err := os.Rename(lockFile(s.Dir)+".new", lockFile(s.Dir)); err != nil {
		return held, err
	}
	text, err := json.Marshal(note{Data: s.Data})
	if err != nil {
		return held, err
	}
	if err := os.WriteFile(noteFile(s.Dir), text, 0o600); err != nil {
		return held, err
	}
	if err := os.WriteFile(hbaFile(s.Dir), []byte(hba), 0o600); err != nil {
		return held, err
	}
	if err := os.Mkdir(socketDir(s.Dir), 0o700); err != nil {
		return held, err
	}
	if s.User == nil {
		return held, nil
	}
	// The server's user passes through our directory to the two that belong to it, and reads who may log in.
	return held, errors.Join(
		give(socketDir(s.Dir), s.User),
		os.Chown(hbaFile(s.Dir), -1, s.User.GID),
		os.Chmod(hbaFile(s.Dir), 0o640), //nolint:gosec // for the server's group
		os.Chmod(s.Dir, 0o711),          //nolint:gosec // to pass through, not to look
	)
}

// hba lets in whoever gets to the socket, which lies in a private directory, and asks everybody else for a password.
//
//nolint:dupword // the columns are kind, database, user, address, method
const hba = `
local all         all     trust
local replication all     trust
host  all         all all scram-sha-256
host  replication all all scram-sha-256
`

// remove takes the directory away and gives up the lock.
func (i *instance) remove() error {
	err := os.RemoveAll(i.dir)
	if i.lock != nil {
		giveUp(i.lock)
	}
	return err
}

// sweep removes from base the servers' directories of this user whose keeper is dead, and ends servers that outlived it.
// Whatever can't be removed stays for the next one.
func sweep(base string) {
	entries, err := os.ReadDir(base)
	if err != nil {
		return
	}
	ours := fmt.Sprintf("%s%d-", prefix, max(os.Geteuid(), 0))
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ours) {
			sweepDir(filepath.Join(base, entry.Name()))
		}
	}
}

func sweepDir(dir string) {
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() || !ownedByUs(info) {
		return
	}
	lock, err := os.OpenFile(filepath.Clean(lockFile(dir)), os.O_RDWR, 0)
	if err != nil {
		// Just being made, or its keeper was killed in that moment.
		if errors.Is(err, os.ErrNotExist) && time.Since(info.ModTime()) > bornLimit {
			_ = os.RemoveAll(dir)
		}
		return
	}
	defer giveUp(lock)
	if free, err := tryLock(lock, true); err != nil || !free {
		return
	}
	var left note
	if text, err := os.ReadFile(filepath.Clean(noteFile(dir))); err == nil && json.Unmarshal(text, &left) == nil && left.Data != "" {
		endOrphan(dir, left)
	}
	_ = os.RemoveAll(dir)
}

// endOrphan ends the server that outlived the keeper of dir. A persistent data directory may belong to another server by now, with a
// keeper that has claimed it or a socket elsewhere.
func endOrphan(dir string, left note) {
	data, err := os.Open(left.Data)
	if err != nil {
		return
	}
	defer giveUp(data)
	if free, err := tryLock(data, true); err == nil && !free {
		return
	}
	if server, err := readPIDFile(left.Data); err == nil && server.socket == socketDir(dir) {
		cleanUp(left.Data)
	}
}

// cleanUp ends every process of the server in data and frees what the kernel keeps for it. After an orderly stop there is nothing to do.
func cleanUp(data string) {
	segment := -1
	if left, err := readPIDFile(data); err == nil {
		segment = left.segment
	}
	limit, ticker := time.NewTimer(goneLimit), time.NewTicker(readyPause)
	defer limit.Stop()
	defer ticker.Stop()
waiting:
	for pids := strays(data); len(pids) > 0; pids = strays(data) {
		for _, pid := range pids {
			killProcess(pid)
		}
		select {
		case <-ticker.C:
		case <-limit.C:
			break waiting
		}
	}
	if info, err := os.Stat(data); err == nil {
		if owner, known := ownerOf(info); known {
			freeSegment(segment, owner)
		}
	}
}

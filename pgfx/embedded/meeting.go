package embedded

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// meeting is where the processes of a user that share a server find each other: a few files in a private directory. It holds no
// data and no socket, so that the server's user has no business there.
//
//   - .elect is locked by whoever decides something: a client that looks for the server or starts it, the keeper when it ends.
//   - .lease is locked, shared, by every process that uses the server, until it ends.
//   - .keeper is locked by the keeper for as long as it lives.
//   - .state says where the server is.
//
// The kernel frees locks with their process. Files are removed only by who holds the election.
type meeting struct {
	Dir string `json:"dir"`
	Key string `json:"key"`
}

const (
	electFile  = "elect"
	leaseFile  = "lease"
	keeperFile = "keeper"
	stateFile  = "state"

	meetingPrefix = "rdsfx-shared-"
)

// state is what a client needs to know of a server that another process has started.
type state struct {
	Spec spec `json:"spec"`
	PID  int  `json:"pid"`
}

// newMeeting names the meeting of all processes that want the same server.
func newMeeting(o options, s spec) (meeting, error) {
	root := o.tempDir
	if root == "" {
		root = os.TempDir()
		if info, err := os.Stat(sharedMemory); runtime.GOOS == "linux" && err == nil && info.IsDir() && writable(sharedMemory) == nil {
			// Unlike the place of the data this mustn't depend on how much room there is at the moment.
			root = sharedMemory
		}
	}
	same, err := json.Marshal(struct {
		Protocol   string            `json:"protocol"`
		Install    installation      `json:"install"`
		User       *osUser           `json:"user"`
		Settings   map[string]string `json:"settings"`
		TCP        bool              `json:"tcp"`
		Persistent string            `json:"persistent"`
		TempDir    string            `json:"temp_dir"`
	}{keeperProtocol, s.Install, s.User, o.settings, o.tcp, o.persistent, o.tempDir})
	if err != nil {
		return meeting{}, fmt.Errorf("embedded: shared: %w", err)
	}
	sum := sha256.Sum256(same)
	return meeting{
		Dir: meetingDir(root),
		Key: hex.EncodeToString(sum[:8]),
	}, nil
}

// meetingDir names the directory of this user's meetings.
func meetingDir(root string) string {
	return filepath.Join(root, fmt.Sprintf("%s%d", meetingPrefix, max(os.Geteuid(), 0)))
}

func (m meeting) path(kind string) string { return filepath.Join(m.Dir, m.Key+"."+kind) }

// open opens one of the files, making it and the directory when they aren't there.
func (m meeting) open(kind string) (*os.File, error) {
	for {
		if err := privateDir(m.Dir, 0o077); err != nil {
			return nil, err
		}
		file, err := os.OpenFile(m.path(kind), os.O_RDWR|os.O_CREATE, 0o600)
		if errors.Is(err, os.ErrNotExist) {
			// The last one has just removed the directory.
			continue
		}
		return file, err
	}
}

// current reports whether the file is still the one of its name: who waits for a lock may get that of a file that was removed.
func current(file *os.File) bool {
	held, err := file.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(file.Name())
	return err == nil && os.SameFile(held, named)
}

// lock opens one of the files and locks it, waiting until ctx ends.
func (m meeting) lock(ctx context.Context, kind string, exclusive bool) (*os.File, error) {
	for {
		file, err := m.open(kind)
		if err != nil {
			return nil, err
		}
		if err := waitLock(ctx, file, exclusive); err != nil {
			giveUp(file)
			return nil, err
		}
		if current(file) {
			return file, nil
		}
		giveUp(file)
	}
}

// kept reports whether a keeper lives.
func (m meeting) kept() bool {
	file, err := os.Open(m.path(keeperFile))
	if err != nil {
		return false
	}
	defer giveUp(file)
	free, err := tryLock(file, false)
	return err == nil && !free
}

// state reads where the server is.
func (m meeting) state() (state, error) {
	var s state
	text, err := os.ReadFile(m.path(stateFile))
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("%s: %w", m.path(stateFile), err)
	}
	return s, nil
}

// publish says where the server is; nobody sees half of it.
func (m meeting) publish(s state) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := os.WriteFile(m.path(stateFile)+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(m.path(stateFile)+".new", m.path(stateFile))
}

// disband removes the files, and the directory after the last of them. The caller holds the election.
func (m meeting) disband() {
	for _, kind := range []string{stateFile + ".new", stateFile, leaseFile, keeperFile, electFile} {
		_ = os.Remove(m.path(kind))
	}
	_ = os.Remove(m.Dir)
}

// sweepMeetings disbands in dir the meetings whose keeper was killed and that nobody came to since.
func sweepMeetings(dir string) {
	if checkPrivate(dir, 0o077) != nil {
		return
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, entry := range entries {
		if key, is := strings.CutSuffix(entry.Name(), "."+electFile); is {
			sweepMeeting(meeting{Dir: dir, Key: key})
		}
	}
}

// sweepMeeting disbands a meeting that nobody holds any part of.
func sweepMeeting(m meeting) {
	var held []*os.File
	defer func() {
		for _, file := range held {
			giveUp(file)
		}
	}()
	for _, kind := range []string{electFile, keeperFile, leaseFile} {
		file, err := os.OpenFile(m.path(kind), os.O_RDWR, 0)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return
		}
		held = append(held, file)
		if free, err := tryLock(file, true); err != nil || !free || !current(file) {
			return
		}
	}
	m.disband()
}

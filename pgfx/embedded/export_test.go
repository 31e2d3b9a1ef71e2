package embedded

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"time"
)

// What tests look at from outside the package.

// Dir returns the server's own directory.
func (s *Server) Dir() string { return s.spec.Dir }

// KeeperPID returns the process id of the server's keeper, 0 when this process didn't start it.
func (s *Server) KeeperPID() int {
	if keeper := s.current(); keeper != nil {
		return keeper.child.(*childProcess).cmd.Process.Pid
	}
	return 0
}

// MeetingDir returns the directory in which the users of the server meet.
func (s *Server) MeetingDir() string { return s.spec.Meeting.Dir }

// Linger is how long a shared server waits for the next process.
const Linger = linger

// Strays lists the processes of the server that works in data.
func Strays(data string) []int { return strays(data) }

// Keep runs a keeper in this process.
func Keep(orders io.Reader, events io.Writer, terminate <-chan os.Signal) int {
	return keep(orders, events, terminate)
}

// Build is New with another environment.
func Build(p Params, env map[string]string) (Result, error) {
	return build(p, func(name string) string { return env[name] })
}

// Found is what resolving yields.
type Found struct {
	URL, BinDir string
	Major       int
}

// Resolve asks the tiers in another environment; only its PATH counts of the installed programs.
func Resolve(env map[string]string) (Found, error) {
	get := func(name string) string { return env[name] }
	return found(resolve(tiers(get, []place{pathPlace(env["PATH"])})))
}

// ResolveGlobs asks for installed programs in the directories that patterns match.
func ResolveGlobs(patterns ...string) (Found, error) {
	var list []place
	for _, pattern := range patterns {
		list = append(list, globPlace(pattern))
	}
	return found(resolve(tiers(func(string) string { return "" }, list)))
}

func found(t target, err error) (Found, error) {
	return Found{URL: t.url, BinDir: t.install.BinDir, Major: t.install.Major}, err
}

// The functions that look at the system, for systems that aren't this one.
var (
	InstallCommand = installCommand
	OSRelease      = osRelease
	ServerEnviron  = serverEnviron
	KeeperEnviron  = keeperEnviron
	Patterns       = func(goos string, env func(string) string) []string { return patterns(goos, env) }
)

// ShareIn is Shared with another environment.
func ShareIn(ctx context.Context, env map[string]string, opts ...Option) (*Server, error) {
	o, err := collect(opts)
	if err != nil {
		return nil, err
	}
	return share(ctx, o, func(name string) string { return env[name] })
}

// PickRoom picks a place among dirs, of which memory is used when it has needed bytes free.
func PickRoom(memory string, needed uint64, dirs ...string) (string, error) {
	user, err := serverUser(os.Geteuid(), "")
	if err != nil {
		return "", err
	}
	return room{candidates: dirs, user: user, memory: memory, memoryNeeded: needed}.pick(socketPort)
}

// RoomCandidates lists the places that are tried when chosen was asked for.
func RoomCandidates(chosen string) []string { return newRoom(chosen, nil).candidates }

// ServerUser names the user that runs the server.
func ServerUser(euid int, named string) (string, error) {
	return nameOf(serverUser(euid, named))
}

// ServerUserAmong is ServerUser with other users to fall back on.
func ServerUserAmong(euid int, fallback ...string) (string, error) {
	return nameOf(pickUser(euid, "", fallback))
}

func nameOf(user *osUser, err error) (string, error) {
	if user == nil {
		return "", err
	}
	return user.Name, err
}

// CreateCluster makes a throw-away cluster in data with the installed server and the given caches.
func CreateCluster(ctx context.Context, data string, caches ...string) error {
	server, err := newServer(ctx, options{}, os.Getenv)
	if err != nil {
		return err
	}
	return cluster{install: server.spec.Install, user: server.spec.User, caches: caches}.create(ctx, data)
}

// Lock takes the lock of a file.
func Lock(path string) (free func(), err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = tryLock(file, true)
	return func() { _ = file.Close() }, err
}

// LockDir takes the lock of a directory.
func LockDir(path string) (free func(), err error) {
	dir, err := os.Open(filepath.Clean(path))
	if err != nil {
		return nil, err
	}
	_, err = tryLock(dir, true)
	return func() { _ = dir.Close() }, err
}

// StartTime returns how much of the time until ctx's deadline a start uses for trying, and how much for cleaning up.
func StartTime(ctx context.Context) (work, grace time.Duration) {
	bounded, grace, cancel := startContext(ctx)
	defer cancel()
	deadline, _ := bounded.Deadline()
	return time.Until(deadline), grace
}

// WriteLog writes texts to a server's log and returns what an error would quote.
func WriteLog(path string, limit int64, texts ...string) (string, error) {
	log, err := openLog(path)
	if err != nil {
		return "", err
	}
	defer log.close()
	log.limit = limit
	for _, text := range texts {
		if _, err := log.Write([]byte(text)); err != nil {
			return "", err
		}
	}
	return log.last(), nil
}

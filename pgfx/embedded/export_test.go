package embedded

import (
	"context"
	"io"
	"os"
)

// What tests look at from outside the package.

// Dir returns the server's own directory.
func (s *Server) Dir() string { return s.spec.Dir }

// KeeperPID returns the process id of the server's keeper, 0 when this process didn't start it.
func (s *Server) KeeperPID() int {
	if keeper := s.current(); keeper != nil {
		return keeper.cmd.Process.Pid
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

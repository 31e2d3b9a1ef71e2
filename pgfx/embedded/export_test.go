package embedded

import (
	"io"
	"os"
)

// What tests look at from outside the package.

// Dir returns the server's own directory.
func (s *Server) Dir() string { return s.spec.Dir }

// KeeperPID returns the process id of the server's keeper.
func (s *Server) KeeperPID() int { return s.current().cmd.Process.Pid }

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

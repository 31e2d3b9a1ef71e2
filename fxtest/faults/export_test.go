package faults

import "os"

// What tests look at from outside the package.

// Commits reports whether a script commits.
func Commits(script string) bool { return commits(script) }

// Follow feeds pieces to a scanner that looks at all messages of these types, and returns what it lets pass, what it holds
// back at the end, and which messages it saw.
func Follow(wants string, untyped bool, pieces [][]byte) (passed, held []byte, seen []string) {
	s := scanner{wants: wants, untyped: untyped}
	for _, piece := range pieces {
		out, _ := s.feed(piece, func(kind byte, body []byte) verdict {
			seen = append(seen, string(kind)+string(body))
			return pass
		})
		passed = append(passed, out...)
	}
	return passed, s.rest(), seen
}

// MakeHome makes a directory and its lock.
func MakeHome(home string) (*os.File, error) { return makeHome(home) }

// SweepHomes removes the directories whose locks match and are free.
func SweepHomes(pattern string) { sweepHomes(pattern) }

// HomeOf returns the directory of a server's data.
func HomeOf(s *Server) string { return s.home }

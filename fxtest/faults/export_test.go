package faults

import "net"

// Exports for tests.
var (
	Commits         = commits
	CreateServerDir = createServerDir
	RemoveStaleDirs = removeStaleDirs
)

// ServerDir returns the directory of a server.
func ServerDir(s *Server) string { return s.dir }

// AcceptLate returns a function that handles a connection as if the proxy had accepted it before the call of AcceptLate.
func AcceptLate(p *Proxy) func(client net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	listener := p.listener
	return func(client net.Conn) { p.handle(listener, client) }
}

// Scan feeds chunks to a scanner that inspects messages of the given types. It returns the forwarded data, the data that is
// still buffered at the end, and the inspected messages.
func Scan(types string, untyped bool, chunks [][]byte) (forwarded, buffered []byte, inspected []string) {
	s := scanner{types: types, untyped: untyped}
	for _, next := range chunks {
		out, _ := s.feed(next, func(kind byte, body []byte) action {
			inspected = append(inspected, string(kind)+string(body))
			return forward
		})
		forwarded = append(forwarded, out...)
	}
	return forwarded, s.rest(), inspected
}

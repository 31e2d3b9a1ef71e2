package aurora

import (
	"cmp"
	"slices"
	"sync/atomic"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// routes are the addresses that connections use. A value does not change; next counts the connections to readers.
type routes struct {
	writer  []pgfx.Address
	readers []pgfx.Address
	choice  ReaderChoice
	next    *atomic.Uint64
}

// routesOf returns the routes for a topology. Connections go only to instances that the monitor has reached, so a name that does
// not resolve here, or a wrong pattern, changes nothing.
func routesOf(s *state, c Config, next *atomic.Uint64) routes {
	r := routes{choice: c.ReaderChoice, next: next}
	var readers []pgfx.Instance
	for _, instance := range s.topology.Instances {
		switch {
		case instance.Host == "" || !s.reached[instance.ID]:
		case instance.Writer:
			if _, claims := s.claims[instance.ID]; claims {
				r.writer = []pgfx.Address{addressOf(instance)}
			}
		case s.failing[instance.ID], c.MaxReaderLag > 0 && instance.Lag > c.MaxReaderLag:
		default:
			readers = append(readers, instance)
		}
	}
	if c.ReaderChoice == LeastLag {
		slices.SortStableFunc(readers, func(a, b pgfx.Instance) int { return cmp.Compare(a.Lag, b.Lag) })
	}
	for _, reader := range readers {
		r.readers = append(r.readers, addressOf(reader))
	}
	return r
}

func addressOf(instance pgfx.Instance) pgfx.Address {
	return pgfx.Address{Host: instance.Host, Port: instance.Port}
}

// route returns where a connection to an endpoint goes, nil to leave that to DNS. The other readers follow the chosen one, in
// case that it does not accept the connection.
func (r routes) route(to role) []pgfx.Address {
	switch to {
	case roleWriter, roleGlobal:
		return r.writer
	case roleReader:
		if len(r.readers) < 2 || r.choice == LeastLag {
			return r.readers
		}
		first := int(r.next.Add(1) % uint64(len(r.readers))) //nolint:gosec // less than the number of readers
		return append(slices.Clone(r.readers[first:]), r.readers[:first]...)
	default:
		return nil
	}
}

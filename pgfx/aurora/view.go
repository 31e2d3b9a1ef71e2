package aurora

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// view is the cluster as one instance describes it.
type view struct {
	self string // the polled instance; "" if it does not report that
	// writes reports whether the instance is the writer in its own view, and not in recovery.
	writes    bool
	instances []pgfx.Instance
	blueGreen []blueGreenRow
}

// answer is the result of polling one instance.
type answer struct {
	target target
	polled string // the instance whose endpoint was dialed; "" for the DB's own address
	view   view
	err    error
	// address is the remote address of the connection.
	address string
}

// heardFor is how long the claim of an instance counts after its last answer.
const heardFor = time.Second

// claim records that an instance is the writer in its own view.
type claim struct {
	since time.Time // the first answer of an unbroken series
	heard time.Time // the last one
}

// state is the result of the answers so far. It has no clock and does no I/O.
type state struct {
	topology pgfx.Topology
	claims   map[string]claim
	// reached holds the instances whose endpoint leads to them. Connections are routed only there.
	reached map[string]bool
	// failing holds the instances whose last answer was an error.
	failing map[string]bool
	// settled reports whether the writer's last answer was that it writes.
	settled bool
}

func newState(kind pgfx.TopologyKind, cluster string) *state {
	return &state{
		topology: pgfx.Topology{Kind: kind, Cluster: cluster},
		claims:   make(map[string]claim), reached: make(map[string]bool), failing: make(map[string]bool),
	}
}

// change is what an answer changed.
type change struct {
	writer  bool // another instance is the writer
	members bool // instances came or went, or became usable or unusable
	wrong   bool // the endpoint of the instance leads to another one
}

// writerID returns the ID of the writer, "" if none is known.
func (s *state) writerID() string {
	writer, _ := s.topology.Writer()
	return writer.ID
}

// source returns the instance that is polled while nothing happens, which is the writer. If the writer's endpoint has never been
// reached, it returns "" for the DB's own address.
func (s *state) source() string {
	writer, _ := s.topology.Writer()
	if writer.Host == "" || s.failing[writer.ID] && !s.reached[writer.ID] {
		return ""
	}
	return writer.ID
}

// apply takes an answer into account.
//
// Only the writer's own view counts, because a reader may still describe the cluster before a failover. Several instances may claim
// to write. Then the claim that began last counts: a reader claims only after its promotion, and a lost writer may go on for a
// while. A writer that is silent for heardFor loses to one that answers.
func (s *state) apply(a answer, now time.Time) change {
	if a.err != nil {
		return s.fail(a.polled)
	}
	v := a.view
	c := s.reach(a.polled, v.self)
	if v.writes {
		known, ok := s.claims[v.self]
		if !ok {
			known.since = now
		}
		known.heard = now
		s.claims[v.self] = known
	} else {
		delete(s.claims, v.self)
		s.settled = s.settled && v.self != s.writerID()
	}
	believed := s.believed(now)
	if v.writes && believed == v.self || believed == "" && s.acceptsReaders() {
		return s.accept(v, c, now)
	}
	return c
}

// acceptsReaders reports whether the view of an instance counts that does not write. It does if there is no better one, or if the
// server is a single instance.
func (s *state) acceptsReaders() bool {
	return len(s.topology.Instances) == 0 || s.topology.Kind == pgfx.TopologyInstance
}

// fail takes into account that an instance did not answer.
func (s *state) fail(polled string) (c change) {
	if polled != "" {
		c.members = !s.failing[polled] && s.reached[polled]
		s.failing[polled] = true
	}
	if polled == s.source() {
		s.settled = false
	}
	return c
}

// reach takes into account which instance has answered at the endpoint of one.
func (s *state) reach(polled, self string) (c change) {
	switch {
	case polled == "" || self == "":
	case !strings.EqualFold(self, polled):
		c.wrong = true
	default:
		c.members = !s.reached[polled] || s.failing[polled]
		s.reached[polled] = true
		delete(s.failing, polled)
	}
	return c
}

// believed returns the instance whose claim to be the writer counts, "" if there is none.
func (s *state) believed(now time.Time) string {
	best := ""
	for _, id := range slices.Sorted(maps.Keys(s.claims)) {
		if best == "" || s.outranks(s.claims[id], s.claims[best], now) {
			best = id
		}
	}
	return best
}

func (s *state) outranks(a, b claim, now time.Time) bool {
	aHeard, bHeard := now.Sub(a.heard) <= heardFor, now.Sub(b.heard) <= heardFor
	if aHeard != bHeard {
		return aHeard
	}
	return a.since.After(b.since)
}

// accept makes v the topology.
func (s *state) accept(v view, c change, now time.Time) change {
	before := s.topology
	instances := slices.Clone(v.instances)
	if v.writes { // also against a row that is older than the promotion
		for i := range instances {
			instances[i].Writer = instances[i].ID == v.self
		}
	}
	slices.SortStableFunc(instances, func(a, b pgfx.Instance) int {
		if a.Writer != b.Writer {
			if a.Writer {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.ID, b.ID)
	})
	s.topology.Instances, s.topology.Source, s.topology.At, s.topology.Err = instances, v.self, now, ""
	s.settled = v.writes || s.topology.Kind == pgfx.TopologyInstance
	old, had := before.Writer()
	if next, ok := s.topology.Writer(); ok && next.ID != old.ID {
		s.topology.WriterSince = now
		c.writer = had
		if had {
			s.topology.Changes++
		}
	}
	c.members = c.members || !slices.EqualFunc(before.Instances, instances, func(a, b pgfx.Instance) bool {
		return a.ID == b.ID && a.Host == b.Host && a.Port == b.Port && a.Writer == b.Writer
	})
	return c
}

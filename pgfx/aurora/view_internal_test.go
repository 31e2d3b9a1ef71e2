package aurora

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// seen returns the answer of an instance of a cluster with the instances a, b and c, which regards writer as the writer.
func seen(self, writer string) answer {
	v := view{self: self, writes: self == writer}
	for _, id := range []string{"a", "b", "c"} {
		v.instances = append(v.instances, pgfx.Instance{ID: id, Host: id + ".test", Writer: id == writer})
	}
	return answer{polled: self, view: v}
}

// promoted returns the answer of an instance that writes, while its rows still name another writer.
func promoted(self, writer string) answer {
	a := seen(self, writer)
	a.view.writes = true
	return a
}

func failed(polled string) answer { return answer{polled: polled, err: errors.New("refused")} }

func TestState_BelievesTheNewestWriter(t *testing.T) {
	t.Parallel()
	type step struct {
		after  time.Duration
		answer answer
		writer string // expected
		change bool
	}
	const tick = 100 * time.Millisecond
	tests := map[string][]step{
		"a reader's view counts only while there is no better one": {
			{0, seen("b", "a"), "a", false},
			{tick, seen("a", "a"), "a", false},
			{tick, seen("b", "c"), "a", false},
			{tick, seen("c", "c"), "c", true},
		},
		"an old writer that goes on loses to the promoted reader": {
			{0, seen("a", "a"), "a", false},
			{tick, seen("b", "b"), "b", true},
			{tick, seen("a", "a"), "b", false},
			{tick, seen("b", "b"), "b", false},
			{tick, seen("a", "a"), "b", false},
		},
		"an old writer that comes back before it is demoted loses": {
			{0, seen("a", "a"), "a", false},
			{tick, failed("a"), "a", false},
			{tick, seen("b", "b"), "b", true},
			{tick, seen("a", "a"), "b", false},
		},
		"a writer that was promoted again wins": {
			{0, seen("a", "a"), "a", false},
			{tick, seen("b", "b"), "b", true},
			{tick, seen("a", "b"), "b", false},
			{tick, seen("a", "a"), "a", true},
		},
		"a demoted writer stays until another one claims to write": {
			{0, seen("a", "a"), "a", false},
			{tick, seen("a", "c"), "a", false},
			{tick, seen("b", "c"), "a", false},
			{tick, seen("c", "c"), "c", true},
		},
		"a writer's own word counts more than its rows, which may be older than the promotion": {
			{0, seen("a", "a"), "a", false},
			{tick, promoted("c", "a"), "c", true},
		},
		"a silent writer loses to one that answers": {
			{0, seen("a", "a"), "a", false},
			{tick, seen("b", "b"), "b", true},
			{tick, failed("b"), "b", false},
			{2 * heardFor, seen("a", "a"), "a", true},
		},
	}
	for name, steps := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, now := newState(pgfx.TopologyAurora, "1"), time.Now()
			for i, step := range steps {
				now = now.Add(step.after)
				c := s.apply(step.answer, now)
				assert.Equal(t, step.writer, s.writerID(), "step %d", i)
				assert.Equal(t, step.change, c.writer, "step %d", i)
			}
		})
	}
}

func TestState_SettlesOnTheWritersWord(t *testing.T) {
	t.Parallel()
	s, now := newState(pgfx.TopologyAurora, "1"), time.Now()
	s.apply(seen("b", "a"), now)
	assert.False(t, s.settled, "a reader's view")
	s.apply(seen("a", "a"), now)
	assert.True(t, s.settled)
	s.apply(failed("b"), now)
	assert.True(t, s.settled, "a reader is lost")
	s.apply(failed("a"), now)
	assert.False(t, s.settled, "the writer is lost")
	s.apply(seen("a", "a"), now)
	s.apply(seen("a", "b"), now)
	assert.False(t, s.settled, "the writer was demoted")
	s.apply(seen("b", "b"), now)
	assert.True(t, s.settled)
	assert.Equal(t, 1, s.topology.Changes)
}

func TestState_IgnoresEndpointsThatLeadElsewhere(t *testing.T) {
	t.Parallel()
	s, now := newState(pgfx.TopologyAurora, "1"), time.Now()
	misled := seen("a", "a")
	misled.polled = "b"
	assert.True(t, s.apply(misled, now).wrong)
	assert.Empty(t, s.reached)
	assert.Equal(t, "a", s.source())
	s.apply(failed("a"), now)
	assert.Empty(t, s.source(), "the endpoint was never reached, so the DB's own address is used")
	assert.Empty(t, routesOf(s, Config{}, nil).writer)
}

func TestRoutes_UseReachedInstances(t *testing.T) {
	t.Parallel()
	m := &member{}
	s, now := newState(pgfx.TopologyAurora, "1"), time.Now()
	lagging := seen("a", "a")
	lagging.view.instances[1].Lag, lagging.view.instances[2].Lag = 20*time.Millisecond, 10*time.Millisecond
	s.apply(lagging, now)
	writerOnly := routesOf(s, Config{}.withDefaults(), &m.next)
	assert.Equal(t, []pgfx.Address{{Host: "a.test"}}, writerOnly.route(roleWriter))
	assert.Equal(t, []pgfx.Address{{Host: "a.test"}}, writerOnly.route(roleGlobal))
	assert.Empty(t, writerOnly.route(roleReader), "no reader was reached")
	for _, other := range []role{roleInstance, roleCustom, roleProxy, roleNone} {
		assert.Nil(t, writerOnly.route(other))
	}

	s.apply(seen("b", "a"), now)
	s.apply(seen("c", "a"), now)
	hosts := func(r routes) (list []string) {
		for _, address := range r.route(roleReader) {
			list = append(list, address.Host)
		}
		return list
	}
	inTurn := routesOf(s, Config{}.withDefaults(), &m.next)
	first := hosts(inTurn)
	assert.Len(t, first, 2)
	assert.Equal(t, []string{first[1], first[0]}, hosts(inTurn))
	assert.Equal(t, first, hosts(inTurn))
	assert.Equal(t, []string{"c.test", "b.test"}, hosts(routesOf(s, Config{ReaderChoice: LeastLag}, &m.next)))
	assert.Equal(t, []string{"c.test"}, hosts(routesOf(s, Config{MaxReaderLag: 15 * time.Millisecond}, &m.next)))
	s.apply(failed("c"), now)
	assert.Equal(t, []string{"b.test"}, hosts(routesOf(s, Config{}, &m.next)))
	s.apply(seen("a", "b"), now)
	assert.Empty(t, routesOf(s, Config{}, &m.next).writer, "no connection for writes goes to a demoted writer")
}

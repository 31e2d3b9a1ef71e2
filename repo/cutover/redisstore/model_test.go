package redisstore_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/internal/testredis"
	"github.com/rdsfx-go/rdsfx/repo/cutover"
)

const (
	// schedulesEnv sets the number of random schedules, seedEnv the seed of the first one.
	schedulesEnv = "RDSFX_REDIS_SCHEDULES"
	seedEnv      = "RDSFX_REDIS_SEED"

	defaultSchedules = 2
	finishTimeout    = 2 * time.Minute
)

// TestCutover_LosesNothing runs random schedules. Two processes write and read, a third takes steps forward and back. Redis, PostgreSQL
// and the processes are killed, and connections are cut. In the end every key must have the value of a write that no acknowledged
// write has followed. A counter must have counted every acknowledged increment once.
func TestCutover_LosesNothing(t *testing.T) {
	t.Parallel()
	schedules, first := envInt(t, schedulesEnv, defaultSchedules), envInt(t, seedEnv, int(time.Now().UnixNano()%1_000_000))
	t.Logf("%d schedules from %s=%d", schedules, seedEnv, first)
	sc := newScene(t)
	for i := range schedules {
		sc.run(t, uint64(first+i))
		if t.Failed() {
			return
		}
	}
}

func envInt(t *testing.T, name string, fallback int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return fallback
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err)
	return n
}

// scene is a pair of servers, and slots for processes, whose connections go through proxies. The last slot is the operator's.
type scene struct {
	redis    *testredis.Server
	postgres *faults.Server
	slots    [3]*slot
}

type slot struct {
	redis, postgres *faults.Proxy
	job             job
	h               *history
	running         *exec.Cmd
	read            sync.WaitGroup
}

func newScene(t *testing.T) *scene {
	t.Helper()
	sc := &scene{redis: newServer(t), postgres: faults.NewServer(t)}
	for i := range sc.slots {
		s := &slot{redis: faults.NewTCPProxy(t, sc.redis.Network(), sc.redis.Address()), postgres: faults.NewProxy(t, sc.postgres.URL())}
		s.job = job{Role: roleWriter, Redis: "redis://" + s.redis.Address(), Postgres: s.postgres.URL()}
		if i == len(sc.slots)-1 {
			s.job.Role = roleOperator
		}
		sc.slots[i] = s
	}
	return sc
}

// direct returns connections of the test itself, which no fault cuts.
func (sc *scene) direct(t *testing.T) *member {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), finishTimeout)
	defer cancel()
	m, err := openMember(ctx, job{Redis: "unix://" + sc.redis.Address(), Postgres: sc.postgres.URL()})
	require.NoError(t, err)
	return m
}

func (sc *scene) run(t *testing.T, seed uint64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	h := newHistory()
	m := sc.direct(t)
	defer m.close()
	require.NoError(t, m.client.FlushAll(t.Context()).Err())
	_, err := m.database.Tx.Exec(t.Context(), `truncate items, rdsfx_cutovers, rdsfx_cutover_processes, rdsfx_cutover_repairs,
		rdsfx_cutover_backfills, rdsfx_cutover_comparisons, rdsfx_cutover_verifications, rdsfx_cutover_steps`)
	require.NoError(t, err)
	for _, s := range sc.slots {
		s.h = h
		s.spawn(t, rng.Uint64())
	}
	for range 6 + rng.IntN(10) {
		pause(t, rng, 250)
		sc.strike(t, rng)
	}
	for _, s := range sc.slots {
		s.kill()
		s.heal()
	}
	back := rng.IntN(3) == 0
	final := sc.finish(t, m, back)
	for _, problem := range h.check(final) {
		t.Errorf("%s=%d (rolled back: %v): %s", seedEnv, seed, back, problem)
	}
	t.Logf("seed %d: %s", seed, h.summary())
}

func pause(t *testing.T, rng *rand.Rand, milliseconds int) {
	t.Helper()
	select {
	case <-time.After(time.Duration(rng.IntN(milliseconds)) * time.Millisecond): // lets the processes work between the faults
	case <-t.Context().Done():
	}
}

// strike kills or cuts something, and repairs it.
func (sc *scene) strike(t *testing.T, rng *rand.Rand) {
	t.Helper()
	s := sc.slots[rng.IntN(len(sc.slots))]
	proxy := s.redis
	if rng.IntN(2) == 0 {
		proxy = s.postgres
	}
	switch rng.IntN(7) {
	case 0, 1:
		s.kill()
		s.spawn(t, rng.Uint64())
	case 2:
		sc.redis.Kill()
		pause(t, rng, 200)
		require.NoError(t, sc.redis.Restart(t.Context()))
	case 3:
		sc.postgres.Kill()
		pause(t, rng, 200)
		sc.postgres.Restart()
	case 4:
		proxy.ResetConnections()
	case 5:
		proxy.RefuseNew()
		proxy.ResetConnections()
		pause(t, rng, 400)
	case 6:
		proxy.BlackHoleAll()
		pause(t, rng, 600)
	}
	s.heal()
}

func (s *slot) heal() {
	s.redis.Heal()
	s.postgres.Heal()
}

// spawn starts a process in the slot.
func (s *slot) spawn(t *testing.T, seed uint64) {
	t.Helper()
	s.job.Seed = seed
	text, err := json.Marshal(s.job)
	require.NoError(t, err)
	s.running = exec.CommandContext(t.Context(), os.Args[0])
	s.running.Env = append(os.Environ(), jobEnv+"="+string(text))
	s.running.Stderr = os.Stderr
	stdin, err := s.running.StdinPipe() // the process ends with its input
	require.NoError(t, err)
	stdout, err := s.running.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, s.running.Start())
	life := s.h.newLife()
	s.read.Go(func() {
		defer func() { _ = stdin.Close() }()
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			s.h.add(life, lines.Bytes())
		}
	})
}

// kill kills the process with SIGKILL and reads the rest of its output.
func (s *slot) kill() {
	_ = s.running.Process.Kill()
	s.read.Wait()
	_ = s.running.Wait() // reports the signal
}

// finish takes the cutover to Done or back to Off, and returns the values of all keys of that side.
func (sc *scene) finish(t *testing.T, m *member, back bool) map[string]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), finishTimeout)
	defer cancel()
	for {
		status, err := m.mover.Status(ctx)
		if err == nil {
			if status.Phase == cutover.Done || back && status.Phase == cutover.Off {
				break
			}
			err = m.finishStep(ctx, status, back)
		}
		require.NotErrorIs(t, err, errMismatch)
		if err != nil { // a server has just been restarted
			select {
			case <-time.After(5 * time.Millisecond):
			case <-ctx.Done():
				require.NoError(t, err, "the cutover does not come to its end")
			}
		}
	}
	final := make(map[string]string)
	for _, key := range keys() {
		read := m.target.Get
		if back {
			read = m.source.Get
		}
		entries, err := read(ctx, key)
		require.NoError(t, err)
		final[key] = entries[0].Value
	}
	return final
}

// finishStep takes a step. Before the last one, both sides must be equal.
func (m *member) finishStep(ctx context.Context, status *cutover.Status, back bool) error {
	if back {
		_, err := m.mover.Rollback(ctx, cutover.Off)
		return err
	}
	if status.Phase == cutover.Backfill {
		if _, err := m.mover.Backfill(ctx, cutover.BackfillOptions{Batch: 3}); err != nil {
			return err
		}
	}
	if status.Phase == cutover.PrimaryNew && status.HeldFor == nil {
		if _, err := m.mover.Repair(ctx); err != nil {
			return err
		}
		report, err := m.mover.Verify(ctx, cutover.VerifyOptions{})
		if err == nil && report.Mismatches() > 0 {
			err = fmt.Errorf("%w: %+v", errMismatch, report)
		}
		if err != nil {
			return err
		}
	}
	_, err := m.mover.Advance(ctx, cutover.AdvanceOptions{Force: true})
	return err
}

// History

// record is a line of a process's output: the beginning or the end of a write, or a read.
type record struct {
	Write   int64  `json:"write,omitempty"` // number of the write in its process
	Key     string `json:"key,omitempty"`
	Value   string `json:"value"`
	Outcome string `json:"outcome,omitempty"`
	Begin   int64  `json:"begin"` // Unix time in nanoseconds; all processes have the same clock
	End     int64  `json:"end,omitempty"`
}

// Outcomes of a write. A write without one was under way when its process was killed.
const (
	acknowledged = "acknowledged"
	durable      = "durable" // acknowledged, but readers may see it later
	refused      = "refused" // certainly not applied
	unknown      = "unknown"
)

const never = math.MaxInt64

type history struct {
	mu     sync.Mutex
	lives  int
	writes map[string]*record // by process and number
	reads  []record
}

func newHistory() *history { return &history{writes: make(map[string]*record)} }

func (h *history) newLife() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lives++
	return h.lives
}

func (h *history) add(life int, line []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var r record
	if json.Unmarshal(line, &r) != nil {
		return // the process was killed in the middle of a line
	}
	id := fmt.Sprint(life, "/", r.Write)
	switch {
	case r.Write == 0:
		h.reads = append(h.reads, r)
	case r.Outcome == "":
		r.Outcome, r.End = unknown, never
		h.writes[id] = &r
	default:
		w := h.writes[id]
		w.Outcome = r.Outcome
		if r.Outcome == acknowledged || r.Outcome == durable {
			w.End = r.End
		}
	}
}

// check returns what the final values and the reads violate.
func (h *history) check(final map[string]string) (problems []string) {
	byKey := map[string][]*record{}
	for _, w := range h.writes {
		byKey[w.Key] = append(byKey[w.Key], w)
	}
	for _, r := range h.reads {
		if r.Key != counterKey && !legal(byKey[r.Key], r, false) {
			problems = append(problems, fmt.Sprintf("a read returned %q for %s, which is not the latest value: %s", r.Value, r.Key, describe(byKey[r.Key])))
		}
	}
	for key, value := range final {
		if key != counterKey && !legal(byKey[key], record{Value: value, Begin: never, End: never}, true) {
			problems = append(problems, fmt.Sprintf("%s is %q in the end, which is not the latest value: %s", key, value, describe(byKey[key])))
		}
	}
	certain, possible := h.increments()
	if count, _ := strconv.Atoi(final[counterKey]); count < certain || count > certain+possible {
		problems = append(problems, fmt.Sprintf("the counter is %d after %d acknowledged increments and %d unknown ones", count, certain, possible))
	}
	return problems
}

// increments returns the number of acknowledged increments, and of those whose outcome is unknown.
func (h *history) increments() (certain, possible int) {
	for _, w := range h.writes {
		switch {
		case w.Key != counterKey || w.Outcome == refused:
		case w.Outcome == unknown:
			possible++
		default:
			certain++
		}
	}
	return certain, possible
}

// legal reports whether a read may return its value: that of a write which no other write has followed that was acknowledged before the
// read. A key is absent at first, and its value is then empty.
func legal(writes []*record, read record, final bool) bool {
	candidates := append([]*record{{Outcome: acknowledged}}, writes...)
	for _, w := range candidates {
		if w.Value != read.Value || w.Outcome == refused || w.Begin > read.End {
			continue
		}
		followed := false
		for _, later := range writes {
			visible := later.Outcome == acknowledged || final && later.Outcome == durable
			followed = followed || visible && later.Begin > w.End && later.End < read.Begin
		}
		if !followed {
			return true
		}
	}
	return false
}

func describe(writes []*record) string {
	var out strings.Builder
	for _, w := range writes {
		_, _ = fmt.Fprintf(&out, "\n\t%q %s from %d to %d", w.Value, w.Outcome, w.Begin, w.End)
	}
	return out.String()
}

func (h *history) summary() string {
	counts := map[string]int{}
	for _, w := range h.writes {
		counts[w.Outcome]++
	}
	return fmt.Sprintf("%d processes, %d reads, writes %v", h.lives, len(h.reads), counts)
}

package cutover_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/repo/cutover"
	"github.com/rdsfx-go/rdsfx/txn"
)

const (
	// schedulesEnv sets the number of random schedules, seedEnv the seed of the first one.
	schedulesEnv = "RDSFX_CUTOVER_SCHEDULES"
	seedEnv      = "RDSFX_CUTOVER_SEED"

	defaultSchedules = 8
	processCount     = 3
)

// TestCutover_LosesNothing runs random schedules. Three processes write, read and update a few keys, and an operator takes steps forward
// and back. Faults strike the processes, the operator and both stores. In the end the model must allow the value of every key. It is read
// from PostgreSQL after Done, and from the old store after a rollback to Off.
func TestCutover_LosesNothing(t *testing.T) {
	t.Parallel()
	schedules, first := envInt(t, schedulesEnv, defaultSchedules), envInt(t, seedEnv, int(time.Now().UnixNano()%1_000_000))
	t.Logf("%d schedules from %s=%d", schedules, seedEnv, first)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range 4 {
		sc := newScene(t)
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(schedules) && !t.Failed(); i = next.Add(1) - 1 {
				sc.run(t, uint64(first)+uint64(i))
			}
		})
	}
	workers.Wait()
}

func envInt(tb testing.TB, name string, fallback int) int {
	tb.Helper()
	text := os.Getenv(name)
	if text == "" {
		return fallback
	}
	n, err := strconv.Atoi(text)
	require.NoError(tb, err)
	return n
}

// scene is a world with the slots of the processes. The last slot is the operator's. Schedules run in it one after the other.
type scene struct {
	*world

	slots []*slot
}

// slot is a place for a process: separate pools, whose connections go through proxies.
type slot struct {
	oldProxy, newProxy *faults.Proxy
	tx                 *txn.Manager
	old                *faultyOld
	items              *faultyNew
}

func newScene(t *testing.T) *scene {
	t.Helper()
	sc := &scene{world: newWorld(t)}
	for range processCount + 1 {
		s := &slot{oldProxy: faults.NewProxy(t, sc.oldURL), newProxy: faults.NewProxy(t, sc.newURL)}
		s.tx = newManager(t, s.newProxy.URL(), 4)
		s.old = &faultyOld{oldStore: newOldStore(t, s.oldProxy.URL())}
		s.items = &faultyNew{Repository: newItems(t, s.tx)}
		sc.slots = append(sc.slots, s)
	}
	return sc
}

// process is one life of a process in a slot.
//
//nolint:containedctx // the context ends when the process is killed
type process struct {
	*slot

	m    *mover
	ctx  context.Context
	end  context.CancelFunc
	work sync.WaitGroup
}

func scheduleConfig() config {
	return config{
		Poll: 15 * time.Millisecond, Lease: 500 * time.Millisecond, Hold: 500 * time.Millisecond, CopyTimeout: 200 * time.Millisecond,
		Repair: 15 * time.Millisecond, RepairBatch: 3, Sweep: pgfx.Off, Gates: cutover.Gates{Window: time.Millisecond},
	}
}

// spawn starts a process in the slot.
func (s *slot) spawn(t *testing.T) *process {
	t.Helper()
	s.oldProxy.Heal()
	s.newProxy.Heal()
	s.old.cross.Store(nil)
	s.items.cross.Store(nil)
	p := &process{slot: s}
	p.ctx, p.end = context.WithCancel(context.Background())
	var err error
	p.m, err = cutover.NewMover(s.tx, "test", cutover.Old[string](s.old), cutover.New[string](s.items), scheduleConfig())
	require.NoError(t, err)
	return p
}

// kill ends the process at whatever points its goroutines are. It reaches no store any more, and gives up no lease.
func (p *process) kill() {
	dead := crossing(func(context.Context, string) error { return errKilled })
	p.old.cross.Store(&dead)
	p.items.cross.Store(&dead)
	for _, proxy := range []*faults.Proxy{p.oldProxy, p.newProxy} {
		proxy.RefuseNew()
		proxy.ResetConnections()
	}
	p.end()
	p.m.Kill()
	p.work.Wait()
}

// schedule is one random schedule.
type schedule struct {
	*scene

	t    *testing.T
	seed uint64
	h    *history
	ids  atomic.Int64

	mu  sync.Mutex
	log []string
}

func (sc *scene) run(t *testing.T, seed uint64) {
	t.Helper()
	sc.old.clear(t)
	_, err := sc.tx.Exec(t.Context(), `truncate items, rdsfx_cutovers, rdsfx_cutover_processes, rdsfx_cutover_repairs, rdsfx_cutover_backfills,
		rdsfx_cutover_comparisons, rdsfx_cutover_verifications, rdsfx_cutover_steps`)
	require.NoError(t, err)
	s := &schedule{scene: sc, t: t, seed: seed, h: newHistory()}
	rng := rand.New(rand.NewPCG(seed, 1))

	s.begin(rng)
	// A process starts and is killed and replaced from time to time, until the storm is over.
	storm, calm := context.WithCancel(context.Background())
	defer calm()
	var all sync.WaitGroup
	for i := range processCount {
		rng := rand.New(rand.NewPCG(seed, uint64(10+i)))
		all.Go(func() { s.live(storm, i, rng) })
	}
	all.Go(func() { s.operate(storm, rand.New(rand.NewPCG(seed, 2))) })
	timer := time.NewTimer(time.Duration(150+rng.IntN(500)) * time.Millisecond)
	<-timer.C
	calm()
	all.Wait()
	s.finish(rng.IntN(3) == 0)
	if t.Failed() {
		t.Logf("seed %d:\n%s", seed, strings.Join(s.log, "\n"))
	}
}

// begin writes some keys in the old store and goes to a random phase.
func (s *schedule) begin(rng *rand.Rand) {
	p := s.slots[processCount].spawn(s.t)
	defer p.end()
	require.NoError(s.t, p.m.Start(p.ctx))
	for i := range rng.IntN(4) {
		key, value := "k"+strconv.Itoa(i), "v"+strconv.FormatInt(s.ids.Add(1), 10)
		w := s.h.begin(key, value)
		s.h.finish(w, outcomeOf(p.m.Store().Set(p.ctx, key, value, 0)))
	}
	for to := cutover.Phase(rng.IntN(int(cutover.Done))); ; {
		st, err := p.m.Status(p.ctx)
		require.NoError(s.t, err)
		if st.Phase >= to {
			break
		}
		if st.Phase == cutover.Backfill {
			if _, err := p.m.Backfill(p.ctx, cutover.BackfillOptions{}); err != nil {
				s.notef("begin: backfill: %v", err) // a machine that is loaded may be too slow
			}
		}
		if _, err := p.m.Advance(p.ctx, cutover.AdvanceOptions{Force: true}); err != nil {
			s.notef("begin: advance: %v", err)
		}
	}
	require.NoError(s.t, p.m.Stop(p.ctx))
}

func (s *schedule) notef(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, time.Since(s.h.began).String()+" "+fmt.Sprintf(format, args...))
}

// live runs processes in a slot, one after the other.
func (s *schedule) live(storm context.Context, i int, rng *rand.Rand) {
	for storm.Err() == nil {
		p := s.slots[i].spawn(s.t)
		if err := p.m.Start(p.ctx); err != nil {
			s.t.Errorf("start: %v", err)
			return
		}
		for range 2 {
			rng := rand.New(rand.NewPCG(rng.Uint64(), 1))
			p.work.Go(func() { s.write(storm, p, rng) })
		}
		for range 1 + rng.IntN(4) {
			if s.pause(storm, rng, 120); storm.Err() != nil {
				break
			}
			s.strike(storm, p, i, rng)
		}
		if storm.Err() == nil {
			s.notef("kill %d", i)
			p.kill()
			continue
		}
		s.heal(p)
		p.work.Wait()
		p.end()
		ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
		if err := p.m.Stop(ctx); err != nil {
			s.t.Errorf("stop: %v", err)
		}
		cancel()
	}
}

func (s *schedule) heal(p *process) {
	p.old.cross.Store(nil)
	p.items.cross.Store(nil)
	p.oldProxy.Heal()
	p.newProxy.Heal()
}

// pause waits for a random time.
func (s *schedule) pause(ctx context.Context, rng *rand.Rand, milliseconds int) {
	timer := time.NewTimer(time.Duration(rng.IntN(milliseconds)) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// strike lets one fault strike a process, and ends it after a while, except for single lost connections and replies.
func (s *schedule) strike(storm context.Context, p *process, i int, rng *rand.Rand) {
	fault := rng.IntN(8)
	s.notef("fault %d strikes %d", fault, i)
	switch fault {
	case 0:
		p.newProxy.ResetConnections()
		return
	case 1:
		p.oldProxy.ResetConnections()
		return
	case 2:
		p.newProxy.DropCommitAck()
		return
	case 3:
		p.newProxy.DropCommit()
		return
	case 4: // PostgreSQL is away
		p.newProxy.RefuseNew()
		p.newProxy.ResetConnections()
	case 5: // the old store is away
		p.oldProxy.RefuseNew()
		p.oldProxy.ResetConnections()
	case 6:
		p.newProxy.BlackHoleAll()
	case 7: // some calls of the process stall, and then it goes on as if nothing had happened
		s.stall(storm, p, rng)
	}
	s.pause(storm, rng, 150)
	p.newProxy.Heal()
	p.oldProxy.Heal()
}

// stall lets the process stall at random points for longer than its lease.
func (s *schedule) stall(storm context.Context, p *process, rng *rand.Rand) {
	odds, length := 1+rng.IntN(20), time.Duration(rng.IntN(800))*time.Millisecond
	var seen atomic.Int64
	hang := crossing(func(_ context.Context, point string) error {
		if seen.Add(1)%int64(odds) != 0 || storm.Err() != nil {
			return nil
		}
		s.notef("stall at %s", point)
		timer := time.NewTimer(length)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-storm.Done():
		}
		return nil
	})
	p.old.cross.Store(&hang)
	p.items.cross.Store(&hang)
	s.pause(storm, rng, 300)
	p.old.cross.Store(nil)
	p.items.cross.Store(nil)
}

// write writes, updates and reads keys until the process ends or the storm is over.
func (s *schedule) write(storm context.Context, p *process, rng *rand.Rand) {
	for p.ctx.Err() == nil && storm.Err() == nil {
		s.operation(p, rng)
		s.pause(p.ctx, rng, 4)
	}
}

func (s *schedule) operation(p *process, rng *rand.Rand) {
	ctx, cancel := context.WithTimeout(p.ctx, time.Duration(50+rng.IntN(1500))*time.Millisecond)
	defer cancel()
	store := p.m.Store()
	key := "k" + strconv.Itoa(rng.IntN(3))
	value := "v" + strconv.FormatInt(s.ids.Add(1), 10)
	start := time.Since(s.h.began)
	switch rng.IntN(8) {
	case 0, 1, 2:
		got, _, err := store.Get(ctx, key)
		if err == nil {
			s.h.addRead(key, got, start)
		}
	case 3:
		w := s.h.begin(key, "")
		s.h.finish(w, outcomeOf(store.Delete(ctx, key)))
	case 4, 5:
		w := s.h.begin(key, value)
		before := ""
		err := store.Update(ctx, key, func(e entry) (entry, error) {
			before = e.Value
			return entry{Key: key, Found: true, Value: value}, nil
		})
		s.h.mu.Lock()
		w.isUpdate, w.before = true, before
		s.h.mu.Unlock()
		s.h.finish(w, outcomeOf(err))
	case 6: // in a transaction of the application
		w := s.h.begin(key, value)
		err := p.tx.Do(ctx, func(ctx context.Context) error { return store.Set(ctx, key, value, time.Hour) })
		o := outcomeOf(err)
		if o == refused { // the transaction of the application may have failed after the write
			o = unknown
		}
		s.h.finish(w, o)
	default:
		w := s.h.begin(key, value)
		s.h.finish(w, outcomeOf(store.Set(ctx, key, value, 0)))
	}
}

func outcomeOf(err error) outcome {
	var unsynced *cutover.UnsyncedError
	switch {
	case err == nil:
		return acknowledged
	case errors.As(err, &unsynced):
		return durable
	case errors.Is(err, cutover.ErrHeld), errors.Is(err, cutover.ErrStateUnknown), errors.Is(err, cutover.ErrNotStarted):
		return refused
	}
	return unknown
}

// operate takes random steps as an operator whose process is killed from time to time.
func (s *schedule) operate(storm context.Context, rng *rand.Rand) {
	i := processCount
	for storm.Err() == nil {
		p := s.slots[i].spawn(s.t)
		choices := rand.New(rand.NewPCG(rng.Uint64(), 1))
		p.work.Go(func() {
			for p.ctx.Err() == nil && storm.Err() == nil {
				s.act(p, choices)
			}
		})
		for range 1 + rng.IntN(3) {
			if s.pause(storm, rng, 200); storm.Err() != nil {
				break
			}
			if rng.IntN(2) == 0 {
				s.strike(storm, p, i, rng)
			}
		}
		s.notef("kill the operator")
		p.kill()
	}
	s.heal(&process{slot: s.slots[i]})
}

func (s *schedule) act(p *process, rng *rand.Rand) {
	ctx, cancel := context.WithTimeout(p.ctx, 2*time.Second)
	defer cancel()
	switch n := rng.IntN(12); {
	case n == 0:
		to := cutover.Phase(rng.IntN(int(cutover.Done)))
		result, err := p.m.Rollback(ctx, to)
		s.notef("rollback to %s: %s, %v", to, result.To, err)
	case n == 1:
		_, err := p.m.Repair(ctx)
		s.notef("repair: %v", err)
	case n < 5:
		s.verify(ctx, p)
	case n < 8:
		_, err := p.m.Backfill(ctx, cutover.BackfillOptions{Batch: 2, Restart: rng.IntN(4) == 0})
		s.notef("backfill: %v", err)
	default:
		st, err := p.m.Status(ctx)
		if err != nil || st.Phase == cutover.PrimaryNew && rng.IntN(10) > 0 { // Done ends the schedule's choices
			return
		}
		result, err := p.m.Advance(ctx, cutover.AdvanceOptions{Force: true, ShadowPercent: 50})
		s.notef("advance: %s, %v", result.To, err)
	}
}

// verify fails the test if keys differ although the backfill is complete.
func (s *schedule) verify(ctx context.Context, p *process) {
	before, err := p.m.Status(ctx)
	if err != nil || !before.Backfill.Complete {
		return
	}
	report, err := p.m.Verify(ctx, cutover.VerifyOptions{Batch: 2})
	if err != nil {
		s.notef("verify: %v", err)
		return
	}
	after, err := p.m.Status(ctx)
	s.notef("verify: %+v", report.MismatchCounts)
	if err == nil && after.Epoch == before.Epoch && report.Mismatches() > 0 {
		s.t.Errorf("seed %d: mismatches in phase %s: %+v", s.seed, after.Phase, report)
	}
}

// finish takes the cutover to its end, which is Done or a rollback to Off, and checks the books.
func (s *schedule) finish(back bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*waitTimeout)
	defer cancel()
	p := s.slots[processCount].spawn(s.t)
	defer p.end()
	var st *cutover.Status
	for {
		var err error
		if st, err = p.m.Status(ctx); err == nil {
			if st.Phase == cutover.Done || back && st.Phase == cutover.Off && st.HeldFor == nil {
				break
			}
			switch {
			case back:
				_, err = p.m.Rollback(ctx, cutover.Off)
			case st.Phase == cutover.Backfill:
				if _, err = p.m.Backfill(ctx, cutover.BackfillOptions{}); err == nil {
					_, err = p.m.Advance(ctx, cutover.AdvanceOptions{Force: true})
				}
			default:
				_, err = p.m.Advance(ctx, cutover.AdvanceOptions{Force: true})
			}
		}
		s.notef("finish: %v", err)
		if ctx.Err() != nil {
			s.t.Errorf("seed %d: the cutover did not come to its end: %v", s.seed, err)
			return
		}
		if _, unmet := errors.AsType[*cutover.GateError](err); unmet { // rolled back and forward since: the backfill is due again
			_, err = p.m.Rollback(ctx, cutover.Backfill)
			s.notef("finish: back to the backfill: %v", err)
		}
	}
	final := map[string]string{}
	var entries []entry
	var err error
	keys := []string{"k0", "k1", "k2"}
	if st.Phase == cutover.Done {
		entries, err = s.items.Get(ctx, keys...)
	} else {
		entries, err = s.old.Get(ctx, keys...)
	}
	if err != nil {
		s.t.Errorf("read the end: %v", err)
		return
	}
	for _, e := range entries {
		if e.Found {
			final[e.Key] = e.Value
		}
	}
	for _, problem := range s.h.check(final) {
		s.t.Errorf("seed %d, end %s: %s", s.seed, st.Phase, problem)
	}
}

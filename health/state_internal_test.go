package health

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

var (
	good     = finding{}
	standby  = finding{readOnly: true}
	refused  = finding{cause: pgfx.CauseRefused}
	timedOut = finding{cause: pgfx.CauseTimeout}
)

func failing(cause pgfx.Cause) finding { return finding{cause: cause} }

// states judges findings one after the other and returns the states.
func states(m *machine, findings ...finding) []State {
	var got []State
	for _, f := range findings {
		got = append(got, m.judge(f).to)
	}
	return got
}

func TestHardEvidenceCountsAtOnceAndSoftEvidenceTwice(t *testing.T) {
	t.Parallel()
	for cause, hard := range map[pgfx.Cause]bool{
		pgfx.CauseRefused: true, pgfx.CauseTLS: true, pgfx.CauseLogin: true, pgfx.CauseDatabaseMissing: true, pgfx.CauseKilled: true,
		pgfx.CauseStartingUp: true, pgfx.CauseShuttingDown: true, pgfx.CauseServerFull: true,
		pgfx.CauseTimeout: false, pgfx.CauseDNS: false, pgfx.CauseUnknown: false,
	} {
		want := []State{Up, Up, Down}
		if hard {
			want = []State{Up, Down, Down}
		}
		m := &machine{}
		assert.Equal(t, want, states(m, good, failing(cause), failing(cause)), cause)
		assert.Equal(t, cause, m.cause)
	}
}

func TestASoftFailureBetweenGoodLooksIsForgotten(t *testing.T) {
	t.Parallel()
	assert.Equal(t, []State{Up, Up, Up, Up, Up}, states(&machine{}, good, timedOut, good, timedOut, good))
	m := &machine{}
	m.judge(good)
	assert.True(t, m.judge(timedOut).unsettled, "the next look comes soon")
	assert.False(t, m.judge(good).unsettled)
}

func TestStartingEndsWithTheFirstDecisiveLook(t *testing.T) {
	t.Parallel()
	assert.Equal(t, []State{Up}, states(&machine{}, good))
	assert.Equal(t, []State{ReadOnly}, states(&machine{}, standby))
	assert.Equal(t, []State{Down}, states(&machine{}, refused))
	assert.Equal(t, []State{Starting, Down}, states(&machine{}, timedOut, timedOut))
}

func TestComingBackIsConfirmedByASecondLook(t *testing.T) {
	t.Parallel()
	m := &machine{}
	assert.Equal(t, []State{Up, Down, Down, Down, Down}, states(m, good, refused, good, refused, good))
	v := m.judge(good)
	assert.Equal(t, Up, v.to)
	assert.False(t, v.rising)
	m.judge(refused)
	assert.True(t, m.judge(good).rising)
}

func TestTheCauseOfDownFollowsTheLooks(t *testing.T) {
	t.Parallel()
	m := &machine{}
	states(m, good, refused)
	v := m.judge(failing(pgfx.CauseStartingUp))
	assert.Equal(t, pgfx.CauseStartingUp, v.cause)
	assert.False(t, v.changed())
	states(m, good)
	assert.Equal(t, pgfx.CauseStartingUp, m.cause)
	states(m, good)
	assert.Empty(t, m.cause)
}

func TestNewConnectionsThatFailDoNotBringAWorkingPoolDown(t *testing.T) {
	t.Parallel()
	m := &machine{}
	v := m.judge(good)
	assert.True(t, v.changed())
	v = m.judge(finding{cause: pgfx.CauseLogin, traffic: true})
	assert.Equal(t, Degraded, v.to)
	assert.Equal(t, []Reason{ReasonConnectFailing}, v.reasons)
	assert.Equal(t, pgfx.CauseLogin, v.cause)
	v = m.judge(finding{cause: pgfx.CauseServerFull, connected: true})
	assert.Equal(t, Degraded, v.to)
	assert.Equal(t, []Reason{ReasonServerFull}, v.reasons)
	assert.True(t, v.changed())
	m.judge(good)
	assert.Equal(t, Up, m.judge(finding{cause: pgfx.CauseTimeout, traffic: true}).to, "one slow connect is nothing")
	assert.Equal(t, Degraded, m.judge(finding{cause: pgfx.CauseTimeout, traffic: true}).to)
	assert.Equal(t, Down, m.judge(finding{cause: pgfx.CauseServerFull}).to, "a pool without connections can't go on")
	assert.Equal(t, Down, m.judge(finding{cause: pgfx.CauseServerFull, connected: true}).to)
	assert.Equal(t, Down, m.judge(finding{cause: pgfx.CauseLogin, traffic: true}).to, "what is in flight doesn't open a shut gate")
}

func TestSlotsThatRunOutAreSaidOnceUntilThereAreManyAgain(t *testing.T) {
	t.Parallel()
	m := &machine{}
	with := func(used int) finding { return finding{slots: slots{used: used, most: 100}} }
	assert.Equal(t, []State{Up, Degraded, Degraded, Degraded, Up, Up}, states(m, with(95), with(96), with(95), with(91), with(90), with(95)))
	assert.Equal(t, []State{Up}, states(m, finding{}), "unknown is not full")
}

func TestReasonsOfThePoolAreListedBesideOthers(t *testing.T) {
	t.Parallel()
	m := &machine{}
	v := m.judge(finding{exhausted: true, slots: slots{used: 99, most: 100}})
	assert.Equal(t, []Reason{ReasonPoolExhausted, ReasonServerNearlyFull}, v.reasons)
	v = m.judge(finding{exhausted: true, stuck: true, readOnly: true})
	assert.Equal(t, []Reason{ReasonPoolStuck}, v.reasons)
	assert.Equal(t, ReadOnly, v.to)
	assert.True(t, m.stop().reasonsChanged)
}

func TestAnotherServerOrRoleIsNoticed(t *testing.T) {
	t.Parallel()
	m := &machine{}
	a := identity{system: "1", started: time.Unix(1, 0)}
	b := identity{system: "1", started: time.Unix(2, 0)}
	assert.False(t, m.judge(finding{server: a}).serverChanged)
	assert.False(t, m.judge(finding{server: a}).serverChanged)
	assert.True(t, m.judge(finding{server: b}).serverChanged)
	assert.False(t, m.judge(finding{}).serverChanged, "unknown is not another")
	assert.False(t, m.judge(finding{server: b}).serverChanged)
	v := m.judge(finding{server: b, readOnly: true})
	assert.True(t, v.roleChanged)
	assert.True(t, v.demoted)
	assert.True(t, v.unsettled)
	assert.False(t, m.judge(finding{server: b, readOnly: true}).roleChanged)
	assert.True(t, m.judge(finding{server: b}).roleChanged)

	never := &machine{}
	v = never.judge(standby)
	assert.False(t, v.demoted, "a standby that was asked for is no demoted writer")
	assert.False(t, v.unsettled)
	assert.False(t, v.roleChanged)
}

func TestAStoppedMachineStaysStopped(t *testing.T) {
	t.Parallel()
	m := &machine{}
	assert.Equal(t, Starting, m.stop().from)
	assert.Equal(t, []State{Stopped, Stopped}, states(m, good, refused))
	assert.False(t, m.judge(good).changed())
}

// decode makes findings of any bytes, two for each.
func decode(data []byte) []finding {
	causes := []pgfx.Cause{
		"", "", "", pgfx.CauseDNS, pgfx.CauseRefused, pgfx.CauseTimeout, pgfx.CauseTLS, pgfx.CauseLogin, pgfx.CauseDatabaseMissing,
		pgfx.CauseStartingUp, pgfx.CauseShuttingDown, pgfx.CauseServerFull, pgfx.CauseKilled, pgfx.CauseUnknown, "",
	}
	var findings []finding
	for i := 0; i+1 < len(data); i += 2 {
		bits := data[i+1]
		f := finding{
			cause: causes[int(data[i])%len(causes)], readOnly: bits&1 != 0, suspectPool: bits&2 != 0, traffic: bits&4 != 0,
			connected: bits&8 != 0, exhausted: bits&16 != 0, stuck: bits&32 != 0,
		}
		if bits&64 != 0 {
			f.server = identity{system: string('a' + rune(data[i])%3)}
		}
		if bits&128 != 0 {
			f.slots = slots{used: 80 + int(data[i])%21, most: 100}
		}
		if f.cause != "" { // nobody answered, nobody said anything
			f.readOnly, f.suspectPool, f.server, f.slots = false, false, identity{}, slots{}
		}
		findings = append(findings, f)
	}
	return findings
}

func unreachableReason(cause pgfx.Cause) Reason {
	if cause == pgfx.CauseServerFull {
		return ReasonServerFull
	}
	return ReasonConnectFailing
}

// hold checks what must be true of any sequence of looks.
func hold(t *testing.T, findings []finding) {
	t.Helper()
	m, twin := &machine{}, &machine{}
	state, goods, bads := Starting, 0, 0
	for i, f := range findings {
		v := m.judge(f)
		require.Equal(t, v, twin.judge(f), "the same findings give the same verdicts")
		require.Equal(t, state, v.from)
		backed := state.Usable() && (f.traffic || f.cause == pgfx.CauseServerFull && f.connected)
		switch {
		case f.cause == "":
			goods, bads = goods+1, 0
		case backed && (hard(f.cause) || bads+1 >= fallSoft):
			goods, bads = 0, 0
			require.Contains(t, v.reasons, unreachableReason(f.cause))
		case backed:
			goods, bads = 0, bads+1
			require.Equal(t, v.from, v.to, "look %d: one soft failure", i)
		default:
			goods, bads = 0, bads+1
		}

		beyond := !backed && (bads >= fallSoft || bads > 0 && hard(f.cause))
		if beyond {
			require.Equal(t, Down, v.to, "look %d: bad beyond the threshold", i)
		}
		if v.from == Down && v.to != Down {
			require.GreaterOrEqual(t, goods, riseDown, "look %d: up without enough good looks", i)
		}
		if v.from != Down && v.to == Down {
			require.True(t, beyond, "look %d: down without enough evidence", i)
		}
		if goods >= riseDown || goods >= 1 && v.from != Down {
			require.True(t, v.to.Usable(), "look %d: good looks that don't count", i)
		}
		require.Equal(t, v.to == Down, v.cause != "" && len(v.reasons) == 0, "look %d: a cause without Down or a reason", i)
		require.Equal(t, v.to == Degraded, len(v.reasons) > 0 && v.to != ReadOnly, "look %d", i)
		if v.to == ReadOnly || v.to == Up {
			require.Equal(t, v.to == ReadOnly, m.readOnly, "look %d", i)
		}

		p := planFor(v)
		require.False(t, p.open && p.shut)
		require.Equal(t, v.to == Down, p.shut)
		require.Equal(t, v.to.Usable(), p.open)
		if v.from == Down && p.open {
			require.Equal(t, ResetRecovered, p.reset)
		}
		if p.shut {
			require.Empty(t, p.reset)
		}
		state = v.to
	}
}

func TestAnySequenceOfLooksIsJudgedByTheRules(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		data := make([]byte, 2*random.IntN(60))
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		hold(t, decode(data))
	}
}

func FuzzMachine(f *testing.F) {
	f.Add([]byte{0, 0, 4, 0, 0, 0, 0, 0})
	f.Add([]byte{0, 1, 5, 4, 11, 8, 12, 0})
	f.Fuzz(func(t *testing.T, data []byte) { hold(t, decode(data)) })
}

func TestLooksComeSoonerWhileAnythingIsWrong(t *testing.T) {
	t.Parallel()
	p := pace{interval: 30 * time.Second}
	calm := verdict{from: Up, to: Up}
	assert.Equal(t, 30*time.Second, p.next(calm, false, 0))
	assert.Equal(t, 27*time.Second, p.next(calm, false, 1))

	fell := verdict{from: Up, to: Down, cause: pgfx.CauseRefused, unsettled: true}
	down := fell
	down.from = Down
	waits := []time.Duration{p.next(fell, false, 0)}
	for range 30 {
		waits = append(waits, p.next(down, false, 0))
	}
	assert.Equal(t, []time.Duration{1e8, 2e8, 4e8, 8e8, 8e8}, waits[:5])
	assert.Equal(t, mostQuickWait, slices.Max(waits), "coming back is noticed within a second")
	assert.Equal(t, mostQuickWait/2, p.next(down, false, 1))

	down.cause = pgfx.CauseLogin
	assert.Equal(t, mostWait, p.next(down, false, 0))
	for _, cause := range []pgfx.Cause{pgfx.CauseTLS, pgfx.CauseDatabaseMissing, pgfx.CauseServerFull} {
		assert.False(t, verdict{cause: cause}.passing(), cause)
	}
	for _, cause := range []pgfx.Cause{pgfx.CauseTimeout, pgfx.CauseDNS, pgfx.CauseUnknown, pgfx.CauseStartingUp} {
		assert.True(t, verdict{cause: cause}.passing(), cause)
	}
	assert.True(t, verdict{demoted: true}.passing(), "a new writer is promoted any moment")
	assert.False(t, verdict{reasons: []Reason{ReasonPoolExhausted}}.passing())
	down.rising = true
	assert.Equal(t, confirmAfter, p.next(down, false, 0.7))
	assert.Equal(t, 30*time.Second, p.next(calm, false, 0))
	assert.Equal(t, firstWait, p.next(calm, true, 0), "a full pool is looked at again")
	assert.Equal(t, 2*firstWait, p.next(calm, true, 0))
	p.next(calm, false, 0)
	assert.Equal(t, firstWait, p.next(calm, true, 0))

	short := pace{interval: time.Millisecond}
	assert.Equal(t, time.Millisecond, short.next(fell, false, 0))
	assert.Equal(t, time.Millisecond, short.next(down, false, 0))
	assert.GreaterOrEqual(t, short.next(fell, false, 1), time.Duration(0))
}

func TestAPoolIsExhaustedWhenItIsFullForAWhileAndStuckWhenNothingComesBack(t *testing.T) {
	t.Parallel()
	var w poolWatch
	start := time.Unix(1000, 0)
	see := func(after time.Duration, inUse, waiting int, returned int64) finding {
		var f finding
		stats := pgfx.Stats{Pool: pgfx.PoolStats{Max: 4, Open: inUse, InUse: inUse, Waiting: waiting}, Use: pgfx.DurationStats{Count: returned}}
		w.see(start.Add(after), stats, &f)
		return f
	}
	assert.Equal(t, finding{}, see(0, 0, 0, 5))
	assert.Equal(t, finding{connected: true}, see(time.Second, 4, 3, 5))
	assert.True(t, w.isFull())
	assert.Equal(t, finding{connected: true}, see(1999*time.Millisecond, 4, 3, 5))
	assert.Equal(t, finding{connected: true, exhausted: true}, see(2*time.Second, 4, 3, 5))
	assert.Equal(t, finding{connected: true, exhausted: true}, see(9*time.Second, 4, 3, 6))
	assert.Equal(t, finding{connected: true, exhausted: true}, see(18*time.Second, 4, 3, 6), "nine seconds since one came back")
	assert.Equal(t, finding{connected: true, exhausted: true, stuck: true}, see(19*time.Second, 4, 3, 6))
	assert.Equal(t, finding{connected: true}, see(20*time.Second, 4, 0, 6), "full is fine while nobody waits")
	assert.False(t, w.isFull())
	assert.Equal(t, finding{connected: true}, see(21*time.Second, 4, 1, 6))
	assert.Equal(t, finding{connected: true}, see(21*time.Second, 3, 1, 6))
}

func TestAnAnswerIsReadWhateverItLacks(t *testing.T) {
	t.Parallel()
	full := []string{"t", "on", "1700000000000001", "12", "97", "1500000", "7123", "3"}
	want := Server{
		InRecovery: true, ReadOnly: true, SystemIdentifier: "7123", Timeline: 3, StartedAt: time.UnixMicro(1700000000000001),
		ReplicationLag: 1500 * time.Millisecond, LagKnown: true, Connections: 12, MaxConnections: 97,
	}
	got, err := parseServer(full)
	require.NoError(t, err)
	assert.Equal(t, want, got)
	got, err = parseServer([]string{"f", "on"})
	require.NoError(t, err)
	assert.Equal(t, Server{ReadOnly: true}, got)
	got, err = parseServer([]string{"f", "off", "", "", "", "", "", ""})
	require.NoError(t, err)
	assert.Equal(t, Server{}, got)
	_, err = parseServer([]string{"f"})
	require.Error(t, err)
	_, err = parseServer([]string{"f", "off", "soon"})
	require.Error(t, err)
}

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
	good     = observation{}
	standby  = observation{readOnly: true}
	refused  = observation{cause: pgfx.CauseRefused}
	timedOut = observation{cause: pgfx.CauseTimeout}
)

func failing(cause pgfx.Cause) observation { return observation{cause: cause} }

// states judges findings one after the other and returns the states.
func states(m *stateMachine, findings ...observation) []State {
	var got []State
	for _, f := range findings {
		got = append(got, m.decide(f).to)
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
		m := &stateMachine{}
		assert.Equal(t, want, states(m, good, failing(cause), failing(cause)), cause)
		assert.Equal(t, cause, m.cause)
	}
}

func TestASoftFailureBetweenGoodLooksIsForgotten(t *testing.T) {
	t.Parallel()
	assert.Equal(t, []State{Up, Up, Up, Up, Up}, states(&stateMachine{}, good, timedOut, good, timedOut, good))
	m := &stateMachine{}
	m.decide(good)
	assert.True(t, m.decide(timedOut).probeSoon, "the next look comes soon")
	assert.False(t, m.decide(good).probeSoon)
}

func TestStartingEndsWithTheFirstDecisiveLook(t *testing.T) {
	t.Parallel()
	assert.Equal(t, []State{Up}, states(&stateMachine{}, good))
	assert.Equal(t, []State{ReadOnly}, states(&stateMachine{}, standby))
	assert.Equal(t, []State{Down}, states(&stateMachine{}, refused))
	assert.Equal(t, []State{Starting, Down}, states(&stateMachine{}, timedOut, timedOut))
}

func TestComingBackIsConfirmedByASecondLook(t *testing.T) {
	t.Parallel()
	m := &stateMachine{}
	assert.Equal(t, []State{Up, Down, Down, Down, Down}, states(m, good, refused, good, refused, good))
	v := m.decide(good)
	assert.Equal(t, Up, v.to)
	assert.False(t, v.recovering)
	m.decide(refused)
	assert.True(t, m.decide(good).recovering)
}

func TestTheCauseOfDownFollowsTheLooks(t *testing.T) {
	t.Parallel()
	m := &stateMachine{}
	states(m, good, refused)
	v := m.decide(failing(pgfx.CauseStartingUp))
	assert.Equal(t, pgfx.CauseStartingUp, v.cause)
	assert.False(t, v.changed())
	states(m, good)
	assert.Equal(t, pgfx.CauseStartingUp, m.cause)
	states(m, good)
	assert.Empty(t, m.cause)
}

func TestNewConnectionsThatFailDoNotBringAWorkingPoolDown(t *testing.T) {
	t.Parallel()
	m := &stateMachine{}
	v := m.decide(good)
	assert.True(t, v.changed())
	v = m.decide(observation{cause: pgfx.CauseLogin, existingConnsWork: true})
	assert.Equal(t, Degraded, v.to)
	assert.Equal(t, []Reason{ReasonConnectFailing}, v.reasons)
	assert.Equal(t, pgfx.CauseLogin, v.cause)
	v = m.decide(observation{cause: pgfx.CauseServerFull, connected: true})
	assert.Equal(t, Degraded, v.to)
	assert.Equal(t, []Reason{ReasonServerFull}, v.reasons)
	assert.True(t, v.changed())
	m.decide(good)
	assert.Equal(t, Up, m.decide(observation{cause: pgfx.CauseTimeout, existingConnsWork: true}).to, "one slow connect is nothing")
	assert.Equal(t, Degraded, m.decide(observation{cause: pgfx.CauseTimeout, existingConnsWork: true}).to)
	assert.Equal(t, Down, m.decide(observation{cause: pgfx.CauseServerFull}).to, "a pool without connections can't go on")
	assert.Equal(t, Down, m.decide(observation{cause: pgfx.CauseServerFull, connected: true}).to)
	assert.Equal(t, Down, m.decide(observation{cause: pgfx.CauseLogin, existingConnsWork: true}).to, "what is in flight doesn't open a shut gate")
}

func TestSlotsThatRunOutAreSaidOnceUntilThereAreManyAgain(t *testing.T) {
	t.Parallel()
	m := &stateMachine{}
	with := func(used int) observation { return observation{slots: slots{used: used, limit: 100}} }
	assert.Equal(t, []State{Up, Degraded, Degraded, Degraded, Up, Up}, states(m, with(95), with(96), with(95), with(91), with(90), with(95)))
	assert.Equal(t, []State{Up}, states(m, observation{}), "unknown is not full")
}

func TestReasonsOfThePoolAreListedBesideOthers(t *testing.T) {
	t.Parallel()
	m := &stateMachine{}
	v := m.decide(observation{exhausted: true, slots: slots{used: 99, limit: 100}})
	assert.Equal(t, []Reason{ReasonPoolExhausted, ReasonServerNearlyFull}, v.reasons)
	v = m.decide(observation{exhausted: true, stuck: true, readOnly: true})
	assert.Equal(t, []Reason{ReasonPoolStuck}, v.reasons)
	assert.Equal(t, ReadOnly, v.to)
	assert.True(t, m.stop().reasonsChanged)
}

func TestAnotherServerOrRoleIsNoticed(t *testing.T) {
	t.Parallel()
	m := &stateMachine{}
	a := identity{system: "1", started: time.Unix(1, 0)}
	b := identity{system: "1", started: time.Unix(2, 0)}
	assert.False(t, m.decide(observation{server: a}).serverChanged)
	assert.False(t, m.decide(observation{server: a}).serverChanged)
	assert.True(t, m.decide(observation{server: b}).serverChanged)
	assert.False(t, m.decide(observation{}).serverChanged, "unknown is not another")
	assert.False(t, m.decide(observation{server: b}).serverChanged)
	v := m.decide(observation{server: b, readOnly: true})
	assert.True(t, v.roleChanged)
	assert.True(t, v.demoted)
	assert.True(t, v.probeSoon)
	assert.False(t, m.decide(observation{server: b, readOnly: true}).roleChanged)
	assert.True(t, m.decide(observation{server: b}).roleChanged)

	never := &stateMachine{}
	v = never.decide(standby)
	assert.False(t, v.demoted, "a standby that was asked for is no demoted writer")
	assert.False(t, v.probeSoon)
	assert.False(t, v.roleChanged)
}

func TestAStoppedMachineStaysStopped(t *testing.T) {
	t.Parallel()
	m := &stateMachine{}
	assert.Equal(t, Starting, m.stop().from)
	assert.Equal(t, []State{Stopped, Stopped}, states(m, good, refused))
	assert.False(t, m.decide(good).changed())
}

// decode makes findings of any bytes, two for each.
func decode(data []byte) []observation {
	causes := []pgfx.Cause{
		"", "", "", pgfx.CauseDNS, pgfx.CauseRefused, pgfx.CauseTimeout, pgfx.CauseTLS, pgfx.CauseLogin, pgfx.CauseDatabaseMissing,
		pgfx.CauseStartingUp, pgfx.CauseShuttingDown, pgfx.CauseServerFull, pgfx.CauseKilled, pgfx.CauseUnknown, "",
	}
	var findings []observation
	for i := 0; i+1 < len(data); i += 2 {
		bits := data[i+1]
		f := observation{
			cause: causes[int(data[i])%len(causes)], readOnly: bits&1 != 0, suspectPool: bits&2 != 0, existingConnsWork: bits&4 != 0,
			connected: bits&8 != 0, exhausted: bits&16 != 0, stuck: bits&32 != 0,
		}
		if bits&64 != 0 {
			f.server = identity{system: string('a' + rune(data[i])%3)}
		}
		if bits&128 != 0 {
			f.slots = slots{used: 80 + int(data[i])%21, limit: 100}
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
func hold(t *testing.T, findings []observation) {
	t.Helper()
	m, twin := &stateMachine{}, &stateMachine{}
	state, goods, bads := Starting, 0, 0
	for i, f := range findings {
		v := m.decide(f)
		require.Equal(t, v, twin.decide(f), "the same findings give the same verdicts")
		require.Equal(t, state, v.from)
		backed := state.Usable() && (f.existingConnsWork || f.cause == pgfx.CauseServerFull && f.connected)
		switch {
		case f.cause == "":
			goods, bads = goods+1, 0
		case backed && (isConfirmed(f.cause) || bads+1 >= suspectedThreshold):
			goods, bads = 0, 0
			require.Contains(t, v.reasons, unreachableReason(f.cause))
		case backed:
			goods, bads = 0, bads+1
			require.Equal(t, v.from, v.to, "look %d: one soft failure", i)
		default:
			goods, bads = 0, bads+1
		}

		beyond := !backed && (bads >= suspectedThreshold || bads > 0 && isConfirmed(f.cause))
		if beyond {
			require.Equal(t, Down, v.to, "look %d: bad beyond the threshold", i)
		}
		if v.from == Down && v.to != Down {
			require.GreaterOrEqual(t, goods, recoveryThreshold, "look %d: up without enough good looks", i)
		}
		if v.from != Down && v.to == Down {
			require.True(t, beyond, "look %d: down without enough evidence", i)
		}
		if goods >= recoveryThreshold || goods >= 1 && v.from != Down {
			require.True(t, v.to.Usable(), "look %d: good looks that don't count", i)
		}
		require.Equal(t, v.to == Down, v.cause != "" && len(v.reasons) == 0, "look %d: a cause without Down or a reason", i)
		require.Equal(t, v.to == Degraded, len(v.reasons) > 0 && v.to != ReadOnly, "look %d", i)
		if v.to == ReadOnly || v.to == Up {
			require.Equal(t, v.to == ReadOnly, m.readOnly, "look %d", i)
		}

		p := planFor(v)
		require.False(t, p.openGate && p.closeGate)
		require.Equal(t, v.to == Down, p.closeGate)
		require.Equal(t, v.to.Usable(), p.openGate)
		if v.from == Down && p.openGate {
			require.Equal(t, ResetRecovered, p.reset)
		}
		if p.closeGate {
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
	p := backoff{interval: 30 * time.Second}
	calm := decision{from: Up, to: Up}
	assert.Equal(t, 30*time.Second, p.next(calm, false, 0))
	assert.Equal(t, 27*time.Second, p.next(calm, false, 1))

	fell := decision{from: Up, to: Down, cause: pgfx.CauseRefused, probeSoon: true}
	down := fell
	down.from = Down
	waits := []time.Duration{p.next(fell, false, 0)}
	for range 30 {
		waits = append(waits, p.next(down, false, 0))
	}
	assert.Equal(t, []time.Duration{1e8, 2e8, 4e8, 8e8, 8e8}, waits[:5])
	assert.Equal(t, maxTransientDelay, slices.Max(waits), "coming back is noticed within a second")
	assert.Equal(t, maxTransientDelay/2, p.next(down, false, 1))

	down.cause = pgfx.CauseLogin
	assert.Equal(t, maxDelay, p.next(down, false, 0))
	for _, cause := range []pgfx.Cause{pgfx.CauseTLS, pgfx.CauseDatabaseMissing, pgfx.CauseServerFull} {
		assert.False(t, decision{cause: cause}.isTransient(), cause)
	}
	for _, cause := range []pgfx.Cause{pgfx.CauseTimeout, pgfx.CauseDNS, pgfx.CauseUnknown, pgfx.CauseStartingUp} {
		assert.True(t, decision{cause: cause}.isTransient(), cause)
	}
	assert.True(t, decision{demoted: true}.isTransient(), "a new writer is promoted any moment")
	assert.False(t, decision{reasons: []Reason{ReasonPoolExhausted}}.isTransient())
	down.recovering = true
	assert.Equal(t, confirmationDelay, p.next(down, false, 0.7))
	assert.Equal(t, 30*time.Second, p.next(calm, false, 0))
	assert.Equal(t, initialDelay, p.next(calm, true, 0), "a full pool is looked at again")
	assert.Equal(t, 2*initialDelay, p.next(calm, true, 0))
	p.next(calm, false, 0)
	assert.Equal(t, initialDelay, p.next(calm, true, 0))

	short := backoff{interval: time.Millisecond}
	assert.Equal(t, time.Millisecond, short.next(fell, false, 0))
	assert.Equal(t, time.Millisecond, short.next(down, false, 0))
	assert.GreaterOrEqual(t, short.next(fell, false, 1), time.Duration(0))
}

func TestAPoolIsExhaustedWhenItIsFullForAWhileAndStuckWhenNothingComesBack(t *testing.T) {
	t.Parallel()
	var w poolTracker
	start := time.Unix(1000, 0)
	see := func(after time.Duration, inUse, waiting int, returned int64) observation {
		var f observation
		stats := pgfx.Stats{Pool: pgfx.PoolStats{Max: 4, Open: inUse, InUse: inUse, Waiting: waiting}, Use: pgfx.DurationStats{Count: returned}}
		w.update(start.Add(after), stats, &f)
		return f
	}
	assert.Equal(t, observation{}, see(0, 0, 0, 5))
	assert.Equal(t, observation{connected: true}, see(time.Second, 4, 3, 5))
	assert.True(t, w.isFull())
	assert.Equal(t, observation{connected: true}, see(1999*time.Millisecond, 4, 3, 5))
	assert.Equal(t, observation{connected: true, exhausted: true}, see(2*time.Second, 4, 3, 5))
	assert.Equal(t, observation{connected: true, exhausted: true}, see(9*time.Second, 4, 3, 6))
	assert.Equal(t, observation{connected: true, exhausted: true}, see(18*time.Second, 4, 3, 6), "nine seconds since one came back")
	assert.Equal(t, observation{connected: true, exhausted: true, stuck: true}, see(19*time.Second, 4, 3, 6))
	assert.Equal(t, observation{connected: true}, see(20*time.Second, 4, 0, 6), "full is fine while nobody waits")
	assert.False(t, w.isFull())
	assert.Equal(t, observation{connected: true}, see(21*time.Second, 4, 1, 6))
	assert.Equal(t, observation{connected: true}, see(21*time.Second, 3, 1, 6))
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

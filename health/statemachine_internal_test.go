package health

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

var (
	success  = observation{}
	standby  = observation{readOnly: true}
	refused  = observation{cause: pgfx.CauseRefused}
	timedOut = observation{cause: pgfx.CauseTimeout}
)

func failing(cause pgfx.Cause) observation { return observation{cause: cause} }

// states applies observations in order and returns the resulting states.
func states(m *stateMachine, observations ...observation) []State {
	var got []State
	for _, f := range observations {
		got = append(got, m.decide(f).to)
	}
	return got
}

func TestStateMachine_ConfirmedAtOnceSuspectedTwice(t *testing.T) {
	t.Parallel()
	for cause, confirmed := range map[pgfx.Cause]bool{
		pgfx.CauseRefused: true, pgfx.CauseTLS: true, pgfx.CauseLogin: true, pgfx.CauseDatabaseMissing: true, pgfx.CauseKilled: true,
		pgfx.CauseStartingUp: true, pgfx.CauseShuttingDown: true, pgfx.CauseServerFull: true,
		pgfx.CauseTimeout: false, pgfx.CauseDNS: false, pgfx.CauseUnknown: false,
	} {
		want := []State{Up, Up, Down}
		if confirmed {
			want = []State{Up, Down, Down}
		}
		m := &stateMachine{}
		assert.Equal(t, want, states(m, success, failing(cause), failing(cause)), cause)
		assert.Equal(t, cause, m.cause)
	}
}

func TestStateMachine_SuccessClearsSuspectedFailure(t *testing.T) {
	t.Parallel()
	assert.Equal(t, []State{Up, Up, Up, Up, Up}, states(&stateMachine{}, success, timedOut, success, timedOut, success))
	m := &stateMachine{}
	m.decide(success)
	assert.True(t, m.decide(timedOut).probeSoon, "the next probe comes soon")
	assert.False(t, m.decide(success).probeSoon)
}

func TestStateMachine_LeavesStartingOnFirstDecision(t *testing.T) {
	t.Parallel()
	assert.Equal(t, []State{Up}, states(&stateMachine{}, success))
	assert.Equal(t, []State{ReadOnly}, states(&stateMachine{}, standby))
	assert.Equal(t, []State{Down}, states(&stateMachine{}, refused))
	assert.Equal(t, []State{Starting, Down}, states(&stateMachine{}, timedOut, timedOut))
}

func TestStateMachine_RecoveryNeedsTwoSuccesses(t *testing.T) {
	t.Parallel()
	m := &stateMachine{}
	assert.Equal(t, []State{Up, Down, Down, Down, Down}, states(m, success, refused, success, refused, success))
	d := m.decide(success)
	assert.Equal(t, Up, d.to)
	assert.False(t, d.recovering)
	m.decide(refused)
	assert.True(t, m.decide(success).recovering)
}

func TestStateMachine_CauseFollowsProbes(t *testing.T) {
	t.Parallel()
	m := &stateMachine{}
	states(m, success, refused)
	d := m.decide(failing(pgfx.CauseStartingUp))
	assert.Equal(t, pgfx.CauseStartingUp, d.cause)
	assert.False(t, d.changed())
	states(m, success)
	assert.Equal(t, pgfx.CauseStartingUp, m.cause)
	states(m, success)
	assert.Empty(t, m.cause)
}

func TestStateMachine_ConnectFailuresDegrade(t *testing.T) {
	t.Parallel()
	m := &stateMachine{}
	d := m.decide(success)
	assert.True(t, d.changed())
	d = m.decide(observation{cause: pgfx.CauseLogin, existingConnsWork: true})
	assert.Equal(t, Degraded, d.to)
	assert.Equal(t, []Reason{ReasonConnectFailing}, d.reasons)
	assert.Equal(t, pgfx.CauseLogin, d.cause)
	d = m.decide(observation{cause: pgfx.CauseServerFull, connected: true})
	assert.Equal(t, Degraded, d.to)
	assert.Equal(t, []Reason{ReasonServerFull}, d.reasons)
	assert.True(t, d.changed())
	m.decide(success)
	assert.Equal(t, Up, m.decide(observation{cause: pgfx.CauseTimeout, existingConnsWork: true}).to, "one slow connect is a suspected failure")
	assert.Equal(t, Degraded, m.decide(observation{cause: pgfx.CauseTimeout, existingConnsWork: true}).to)
	assert.Equal(t, Down, m.decide(observation{cause: pgfx.CauseServerFull}).to, "a pool without connections cannot serve")
	assert.Equal(t, Down, m.decide(observation{cause: pgfx.CauseServerFull, connected: true}).to)
	assert.Equal(t, Down, m.decide(observation{cause: pgfx.CauseLogin, existingConnsWork: true}).to,
		"statements in flight do not open a closed gate")
}

func TestStateMachine_SlotsHaveHysteresis(t *testing.T) {
	t.Parallel()
	m := &stateMachine{}
	with := func(used int) observation { return observation{slots: slots{used: used, limit: 100}} }
	assert.Equal(t, []State{Up, Degraded, Degraded, Degraded, Up, Up}, states(m, with(95), with(96), with(95), with(91), with(90), with(95)))
	assert.Equal(t, []State{Up}, states(m, observation{}), "unknown slots are not full")
}

func TestStateMachine_ListsSeveralReasons(t *testing.T) {
	t.Parallel()
	m := &stateMachine{}
	d := m.decide(observation{exhausted: true, slots: slots{used: 99, limit: 100}})
	assert.Equal(t, []Reason{ReasonPoolExhausted, ReasonServerNearlyFull}, d.reasons)
	d = m.decide(observation{exhausted: true, stalled: true, readOnly: true})
	assert.Equal(t, []Reason{ReasonPoolStalled}, d.reasons)
	assert.Equal(t, ReadOnly, d.to)
	assert.True(t, m.stop().reasonsChanged)
}

func TestStateMachine_NoticesServerAndRoleChange(t *testing.T) {
	t.Parallel()
	m := &stateMachine{}
	a := identity{system: "1", started: time.Unix(1, 0)}
	b := identity{system: "1", started: time.Unix(2, 0)}
	assert.False(t, m.decide(observation{server: a}).serverChanged)
	assert.False(t, m.decide(observation{server: a}).serverChanged)
	assert.True(t, m.decide(observation{server: b}).serverChanged)
	assert.False(t, m.decide(observation{}).serverChanged, "an unknown server is not another server")
	assert.False(t, m.decide(observation{server: b}).serverChanged)
	d := m.decide(observation{server: b, readOnly: true})
	assert.True(t, d.roleChanged)
	assert.True(t, d.demoted)
	assert.True(t, d.probeSoon)
	assert.False(t, m.decide(observation{server: b, readOnly: true}).roleChanged)
	assert.True(t, m.decide(observation{server: b}).roleChanged)

	fresh := &stateMachine{}
	d = fresh.decide(standby)
	assert.False(t, d.demoted, "a configured standby is not a demoted writer")
	assert.False(t, d.probeSoon)
	assert.False(t, d.roleChanged)
}

func TestStateMachine_StaysStopped(t *testing.T) {
	t.Parallel()
	m := &stateMachine{}
	assert.Equal(t, Starting, m.stop().from)
	assert.Equal(t, []State{Stopped, Stopped}, states(m, success, refused))
	assert.False(t, m.decide(success).changed())
}

// decode turns bytes into observations, two bytes for each.
func decode(data []byte) []observation {
	causes := []pgfx.Cause{
		"", "", "", pgfx.CauseDNS, pgfx.CauseRefused, pgfx.CauseTimeout, pgfx.CauseTLS, pgfx.CauseLogin, pgfx.CauseDatabaseMissing,
		pgfx.CauseStartingUp, pgfx.CauseShuttingDown, pgfx.CauseServerFull, pgfx.CauseKilled, pgfx.CauseUnknown, "",
	}
	var observations []observation
	for i := 0; i+1 < len(data); i += 2 {
		bits := data[i+1]
		o := observation{
			cause: causes[int(data[i])%len(causes)], readOnly: bits&1 != 0, suspectPool: bits&2 != 0, existingConnsWork: bits&4 != 0,
			connected: bits&8 != 0, exhausted: bits&16 != 0, stalled: bits&32 != 0,
		}
		if bits&64 != 0 {
			o.server = identity{system: string('a' + rune(data[i])%3)}
		}
		if bits&128 != 0 {
			o.slots = slots{used: 80 + int(data[i])%21, limit: 100}
		}
		if o.cause != "" { // a failed probe reports nothing about the server
			o.readOnly, o.suspectPool, o.server, o.slots = false, false, identity{}, slots{}
		}
		observations = append(observations, o)
	}
	return observations
}

func connectReason(cause pgfx.Cause) Reason {
	if cause == pgfx.CauseServerFull {
		return ReasonServerFull
	}
	return ReasonConnectFailing
}

// checkRules checks the rules that every sequence of observations must keep.
func checkRules(t *testing.T, observations []observation) {
	t.Helper()
	m, twin := &stateMachine{}, &stateMachine{}
	state, successes, failures := Starting, 0, 0
	for i, f := range observations {
		d := m.decide(f)
		require.Equal(t, d, twin.decide(f), "the same observations lead to the same decisions")
		require.Equal(t, state, d.from)
		backed := state.Usable() && (f.existingConnsWork || f.cause == pgfx.CauseServerFull && f.connected)
		switch {
		case f.cause == "":
			successes, failures = successes+1, 0
		case backed && (isConfirmed(f.cause) || failures+1 >= suspectedThreshold):
			successes, failures = 0, 0
			require.Contains(t, d.reasons, connectReason(f.cause))
		case backed:
			successes, failures = 0, failures+1
			require.Equal(t, d.from, d.to, "probe %d: one suspected failure", i)
		default:
			successes, failures = 0, failures+1
		}

		beyond := !backed && (failures >= suspectedThreshold || failures > 0 && isConfirmed(f.cause))
		if beyond {
			require.Equal(t, Down, d.to, "probe %d: failures beyond the threshold", i)
		}
		if d.from == Down && d.to != Down {
			require.GreaterOrEqual(t, successes, recoveryThreshold, "probe %d: up without enough successes", i)
		}
		if d.from != Down && d.to == Down {
			require.True(t, beyond, "probe %d: down without enough failures", i)
		}
		if successes >= recoveryThreshold || successes >= 1 && d.from != Down {
			require.True(t, d.to.Usable(), "probe %d: enough successes, but not usable", i)
		}
		require.Equal(t, d.to == Down, d.cause != "" && len(d.reasons) == 0, "probe %d: a cause without Down or a reason", i)
		require.Equal(t, d.to == Degraded, len(d.reasons) > 0 && d.to != ReadOnly, "probe %d", i)
		if d.to == ReadOnly || d.to == Up {
			require.Equal(t, d.to == ReadOnly, m.readOnly, "probe %d", i)
		}

		p := planFor(d)
		require.False(t, p.openGate && p.closeGate)
		require.Equal(t, d.to == Down, p.closeGate)
		require.Equal(t, d.to.Usable(), p.openGate)
		if d.from == Down && p.openGate {
			require.Equal(t, ResetRecovered, p.reset)
		}
		if p.closeGate {
			require.Empty(t, p.reset)
		}
		state = d.to
	}
}

func TestStateMachine_RandomObservationsKeepTheRules(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		data := make([]byte, 2*random.IntN(60))
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		checkRules(t, decode(data))
	}
}

func FuzzStateMachine(f *testing.F) {
	f.Add([]byte{0, 0, 4, 0, 0, 0, 0, 0})
	f.Add([]byte{0, 1, 5, 4, 11, 8, 12, 0})
	f.Fuzz(func(t *testing.T, data []byte) { checkRules(t, decode(data)) })
}

func TestStateMachine_Switching(t *testing.T) {
	t.Parallel()
	switching := observation{switching: true}
	m := &stateMachine{}
	assert.Equal(t, []State{Up, Switching, Switching, Up}, states(m, success, switching, switching, success))
	assert.Equal(t, []State{Down, Switching, Switching, Down}, states(m, refused, switching, timedOut, timedOut))
	assert.Equal(t, []State{Switching, ReadOnly}, states(m, switching, standby))
	held := planFor(decision{from: Up, to: Switching})
	assert.Equal(t, recoveryPlan{holdGate: true}, held)
	assert.Equal(t, recoveryPlan{openGate: true, reset: ResetSwitched}, planFor(decision{from: Switching, to: Up}))
	assert.True(t, Switching.Usable())
}

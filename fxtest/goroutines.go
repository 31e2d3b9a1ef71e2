package fxtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// Main runs the tests of a package and fails when a goroutine is left at the end. Call it from TestMain:
//
//	func TestMain(m *testing.M) { fxtest.Main(m) }
func Main(m *testing.M, opts ...goleak.Option) { goleak.VerifyTestMain(m, opts...) }

// testLabel marks the goroutines of a test. Go hands labels on to every goroutine that a goroutine starts, so that what an
// application has started can be told from what tests beside it run.
const testLabel = "rdsfx_test"

// label marks the calling goroutine, which is the test's, and all that it will start.
func label() (id string) {
	id = rand.Text()
	pprof.SetGoroutineLabels(pprof.WithLabels(context.Background(), pprof.Labels(testLabel, id)))
	return id
}

// leaveTime is how long goroutines that have been told to end get for it.
const leaveTime = 2 * time.Second

// reportGoroutines reports goroutines that the application of a test has left behind. The calling goroutine loses its label.
func reportGoroutines(tb testing.TB, id string) {
	tb.Helper()
	pprof.SetGoroutineLabels(context.Background())
	var left []string
	for pause := time.Millisecond; ; pause *= 2 {
		if left = labelled(id); len(left) == 0 {
			return
		}
		if pause > leaveTime {
			break
		}
		timer := time.NewTimer(pause)
		<-timer.C
	}
	for _, stack := range left {
		tb.Errorf("fxtest: a goroutine of the application is left after its stop:\n%s", stack)
	}
}

// labelled returns the stacks of the goroutines with the label, from the profile's text: groups of goroutines that do the
// same, separated by blank lines, each with its labels.
func labelled(id string) []string {
	var profile bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil { // a buffer takes everything
		return nil
	}
	var stacks []string
	for group := range strings.SplitSeq(profile.String(), "\n\n") {
		// Package os/signal keeps one goroutine for the process, which has the label of whoever asked for a signal first.
		if strings.Contains(group, `"`+testLabel+`":"`+id+`"`) && !strings.Contains(group, "os/signal.signal_recv") {
			stacks = append(stacks, strings.TrimSpace(group))
		}
	}
	return stacks
}

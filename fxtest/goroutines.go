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

// Main runs the tests of a package and fails if goroutines are still running afterwards. Call it from TestMain:
//
//	func TestMain(m *testing.M) { fxtest.Main(m) }
func Main(m *testing.M, opts ...goleak.Option) { goleak.VerifyTestMain(m, opts...) }

// labelKey is the pprof label of a test's goroutines. Goroutines inherit labels, so the label separates the goroutines of
// an application from those of tests that run in parallel.
const labelKey = "rdsfx_test"

// labelGoroutine gives the calling goroutine, and those that it starts from now on, a unique label.
func labelGoroutine() (label string) {
	label = rand.Text()
	pprof.SetGoroutineLabels(pprof.WithLabels(context.Background(), pprof.Labels(labelKey, label)))
	return label
}

// reportGoroutines reports goroutines with the label that are still running after about two seconds. It removes the label
// from the calling goroutine.
func reportGoroutines(tb testing.TB, label string) {
	tb.Helper()
	const maxPause = 2 * time.Second
	pprof.SetGoroutineLabels(context.Background())
	var running []string
	for pause := time.Millisecond; ; pause *= 2 {
		if running = labelledStacks(label); len(running) == 0 {
			return
		}
		if pause > maxPause {
			break
		}
		timer := time.NewTimer(pause)
		<-timer.C
	}
	for _, stack := range running {
		tb.Errorf("fxtest: goroutine of the application still running after its stop:\n%s", stack)
	}
}

// labelledStacks returns the stacks of the goroutines with the label. The text of the goroutine profile holds one paragraph
// for each distinct stack, with its labels.
func labelledStacks(label string) []string {
	var profile bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil { // writing to a buffer does not fail
		return nil
	}
	var stacks []string
	for stack := range strings.SplitSeq(profile.String(), "\n\n") {
		// os/signal runs one goroutine for the whole process. It has the label of the first goroutine that used signals.
		if strings.Contains(stack, `"`+labelKey+`":"`+label+`"`) && !strings.Contains(stack, "os/signal.signal_recv") {
			stacks = append(stacks, strings.TrimSpace(stack))
		}
	}
	return stacks
}

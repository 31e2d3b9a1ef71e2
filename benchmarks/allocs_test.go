package benchmarks_test

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/benchmarks/contest"
	"github.com/rdsfx-go/rdsfx/benchmarks/measure"
)

var update = flag.Bool("update", false, "write the allocations of the current code to "+baseline)

const (
	baseline  = "testdata/allocs.txt"
	howUpdate = "make bench-allocs"
)

// platform returns the platform for which the numbers hold: the compiler decides which values escape to the heap.
func platform() string {
	release := regexp.MustCompile(`^go1\.\d+`).FindString(runtime.Version())
	return fmt.Sprintf("%s %s/%s", release, runtime.GOOS, runtime.GOARCH)
}

// TestAllocations_MatchBaseline compares the allocations of each operation with a file, exactly. More allocations are a
// regression. Fewer allocations must be written to the file, so that they stay.
func TestAllocations_MatchBaseline(t *testing.T) { //nolint:paralleltest // it counts the allocations of the process
	if raceEnabled {
		t.Skip("the race detector also allocates")
	}
	want, err := os.ReadFile(baseline)
	if !*update {
		require.NoError(t, err)
		if header, _, _ := strings.Cut(string(want), "\n"); !strings.HasSuffix(header, " "+platform()) {
			t.Skipf("%s is for another platform than %s: %s", baseline, platform(), header)
		}
	}
	expected := make(map[string]int)
	for line := range strings.Lines(string(want)) {
		if words := strings.Fields(line); len(words) == 3 && !*update {
			expected[words[0]+" "+words[1]], _ = strconv.Atoi(words[2])
		}
	}
	var got strings.Builder
	got.WriteString("# Allocations of one replayed call. Written by: " + howUpdate + "; on " + platform() + "\n")
	server, err := measure.NewServer(t.Context())
	require.NoError(t, err)
	defer server.Close()
	operations := contest.Operations()
	for i := range operations {
		op := &operations[i]
		for position, contender := range op.Contenders {
			if position > 0 && !strings.HasPrefix(contender.Name, "rdsfx") && !strings.HasPrefix(contender.Name, "Do-") {
				continue // only the library and the contender that it is compared with
			}
			n, err := server.Allocations(t.Context(), op, contender, expected[op.Slug+" "+contender.Name])
			require.NoError(t, err)
			fmt.Fprintf(&got, "%-18s %-14s %d\n", op.Slug, contender.Name, n)
		}
	}
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(baseline, []byte(got.String()), 0o644))
		return
	}
	before := strings.Split(string(want), "\n")
	for i, line := range strings.Split(got.String(), "\n") {
		was := ""
		if i < len(before) {
			was = before[i]
		}
		if line != was {
			t.Errorf("allocations changed.\n  %s: %s\n  now: %s\n"+
				"If this is intended, update the file with: %s", baseline, was, line, howUpdate)
		}
	}
}

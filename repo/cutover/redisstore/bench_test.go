package redisstore_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/repo/cutover"
)

var update = flag.Bool("update", false, "write the tables of BenchmarkCutover into docs/cutover.md")

// keysEnv sets the number of keys that BenchmarkCutover moves.
const keysEnv = "RDSFX_REDIS_KEYS"

// BenchmarkCutover moves a million keys and measures reads and writes in every phase beside Redis alone. It takes minutes.
func BenchmarkCutover(b *testing.B) {
	keys := 1_000_000
	if text := os.Getenv(keysEnv); text != "" {
		_, err := fmt.Sscan(text, &keys)
		require.NoError(b, err)
	}
	for b.Loop() {
		report := measureCutover(b, keys)
		_, _ = fmt.Fprintln(os.Stdout, report)
		if *update {
			publish(b, report)
		}
	}
}

// publish replaces the report in docs/cutover.md.
func publish(b *testing.B, report string) {
	b.Helper()
	const file = "../../../docs/cutover.md"
	text, err := os.ReadFile(file)
	require.NoError(b, err)
	marks := regexp.MustCompile(`(?s)(<!-- report -->\n).*(<!-- end -->)`)
	require.True(b, marks.Match(text), "%s has no place for the report", file)
	text = marks.ReplaceAllFunc(text, func([]byte) []byte { return []byte("<!-- report -->\n" + report + "<!-- end -->") })
	require.NoError(b, os.WriteFile(file, text, 0o600))
}

func measureCutover(b *testing.B, keys int) string {
	b.Helper()
	ctx := b.Context()
	server := newServer(b, "--appendonly", "no")
	m, err := openMember(ctx, job{Redis: "unix://" + server.Address(), Postgres: fxtest.URL(b)})
	require.NoError(b, err)
	defer m.close()
	fillKeys(b, m.client, keys)
	require.NoError(b, m.mover.Start(ctx))

	var out strings.Builder
	costs := []string{cost(b, "Redis alone (go-redis)", func(ctx context.Context, key, value string) error {
		return m.client.Set(ctx, key, value, 0).Err()
	}, func(ctx context.Context, key string) error {
		return m.client.Get(ctx, key).Err()
	})}
	store := m.mover.Store()
	for {
		status, err := m.mover.Status(ctx)
		require.NoError(b, err)
		if status.Phase == cutover.Backfill {
			out.WriteString(backfill(b, m, keys))
		}
		if status.Phase != cutover.Backfill && status.Phase != cutover.Verify { // as in DualWrite
			costs = append(costs, cost(b, status.Phase.String(), func(ctx context.Context, key, value string) error {
				return store.Set(ctx, key, value, 0)
			}, func(ctx context.Context, key string) error {
				_, _, err := store.Get(ctx, key)
				return err
			}))
		}
		if status.Phase == cutover.Done {
			break
		}
		_, err = m.mover.Advance(ctx, cutover.AdvanceOptions{Force: true})
		require.NoError(b, err)
	}
	out.WriteString("\n| phase | Set, 1 caller | Set, 8 callers | Get, 1 caller | Get, 8 callers |\n|---|---|---|---|---|\n")
	out.WriteString(strings.Join(costs, ""))
	return out.String()
}

func fillKeys(b *testing.B, client redis.UniversalClient, keys int) {
	b.Helper()
	value := strings.Repeat("x", 100)
	for from := 0; from < keys; from += 10_000 {
		pipeline := client.Pipeline()
		for i := from; i < min(from+10_000, keys); i++ {
			pipeline.Set(b.Context(), fmt.Sprint("key:", i), value, 0)
		}
		_, err := pipeline.Exec(b.Context())
		require.NoError(b, err)
	}
}

// backfill measures the backfill, its memory and the verification.
func backfill(b *testing.B, m *member, keys int) string {
	b.Helper()
	runtime.GC() //nolint:revive // the heap before is measured
	before, peak := heap(), uint64(0)
	began := time.Now()
	_, err := m.mover.Backfill(b.Context(), cutover.BackfillOptions{Progress: func(p cutover.BackfillProgress) {
		if p.Keys%10_000 < 200 {
			peak = max(peak, heap())
		}
	}})
	require.NoError(b, err)
	copied := time.Since(began)
	began = time.Now()
	report, err := m.mover.Verify(b.Context(), cutover.VerifyOptions{})
	require.NoError(b, err)
	require.Zero(b, report.Mismatches())
	verified := time.Since(began)
	rate := func(took time.Duration) string { return fmt.Sprintf("%.0f keys/s", float64(keys)/took.Seconds()) }
	return fmt.Sprintf("%d keys with values of 100 bytes, one process:\n\n| | time | rate | heap |\n|---|---|---|---|\n"+
		"| backfill | %s | %s | at most %.0f MB more than before |\n| full verification | %s | %s | |\n",
		keys, copied.Round(time.Second), rate(copied), float64(peak-min(peak, before))/1e6, verified.Round(time.Second), rate(verified))
}

func heap() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// cost measures the median of writes and reads, and returns a row of the table.
func cost(
	b *testing.B, name string, set func(ctx context.Context, key, value string) error, get func(ctx context.Context, key string) error,
) string {
	b.Helper()
	const calls = 2000
	value := strings.Repeat("y", 100)
	measure := func(callers int, call func(i int) error) string {
		var mu sync.Mutex
		var times []time.Duration
		var running sync.WaitGroup
		began := time.Now()
		for caller := range callers {
			running.Go(func() {
				for i := range calls / callers {
					start := time.Now()
					if err := call(i*callers + caller); err != nil {
						b.Error(err)
					}
					mu.Lock()
					times = append(times, time.Since(start))
					mu.Unlock()
				}
			})
		}
		running.Wait()
		took := time.Since(began)
		slices.Sort(times)
		return fmt.Sprintf("%d µs, %.0f/s", times[len(times)/2].Microseconds(), float64(calls)/took.Seconds())
	}
	cells := []string{name}
	for _, call := range []func(i int) error{
		func(i int) error { return set(b.Context(), fmt.Sprint("key:", i), value) },
		func(i int) error { return get(b.Context(), fmt.Sprint("key:", i)) },
	} {
		cells = append(cells, measure(1, call), measure(8, call))
	}
	return "| " + strings.Join(cells, " | ") + " |\n"
}

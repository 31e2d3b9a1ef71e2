package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

const (
	overloadConns = 8
	// overload is the largest number of callers for each connection.
	overload = 64
	// overloadWork takes a connection for some milliseconds and little CPU.
	overloadWork = "select pg_sleep(0.004)"
)

// openOverloaded opens a pool of this library with overloadConns connections.
func openOverloaded(tb testing.TB, url string, maxWaiting int) *pgxpool.Pool {
	tb.Helper()
	return fxtest.DB(tb, fxtest.At(url), fxtest.Config(pgfx.Config{
		Pool: pgfx.PoolConfig{MaxConns: overloadConns, MaxWaiting: maxWaiting},
	})).Pool()
}

func TestOverload_ServesCallersInTheirOrder(t *testing.T) {
	t.Parallel()
	db := fxtest.DB(t, fxtest.Config(pgfx.Config{Pool: pgfx.PoolConfig{MaxConns: 1}}))
	held, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	var (
		working sync.WaitGroup
		order   []int // guarded by the connection
	)
	for i := range overload {
		working.Go(func() {
			conn, err := db.Pool().Acquire(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			order = append(order, i)
			conn.Release()
		})
		require.Eventually(t, func() bool { return queued("TestOverload_ServesCallersInTheirOrder") == i+1 }, serverLimit, time.Millisecond)
	}
	held.Release()
	working.Wait()
	assert.Len(t, order, overload)
	assert.IsIncreasing(t, order)
}

// queued returns the number of goroutines of a test that are blocked in the queue of a pool. The statistics count a caller
// shortly before it joins the queue, so they don't tell its place.
func queued(test string) (n int) {
	stacks := make([]byte, 1<<20)
	for {
		if size := runtime.Stack(stacks, true); size < len(stacks) {
			stacks = stacks[:size]
			break
		}
		stacks = make([]byte, 2*len(stacks))
	}
	for stack := range strings.SplitSeq(string(stacks), "\n\n") {
		state, frames, _ := strings.Cut(stack, "\n")
		if strings.Contains(state, "[select") && strings.Contains(frames, "semaphore.(*Weighted).Acquire") &&
			strings.Contains(frames, test+".func") {
			n++
		}
	}
	return n
}

func TestOverload_HonoursDeadlines(t *testing.T) {
	t.Parallel()
	pool := openOverloaded(t, fxtest.URL(t), 0)
	release := holdAll(t, pool)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	results := make(chan error, overload*overloadConns)
	for range cap(results) {
		go func() {
			_, err := pool.Exec(ctx, "select 1")
			results <- err
		}()
	}
	for range cap(results) {
		require.ErrorIs(t, <-results, pgfx.ErrAcquireTimeout)
	}
	release()
	_, err := pool.Exec(t.Context(), "select 1")
	require.NoError(t, err)
}

func TestOverload_ShedsWithTypedErrors(t *testing.T) {
	t.Parallel()
	const most = 16
	db := fxtest.DB(t, fxtest.Config(pgfx.Config{Pool: pgfx.PoolConfig{MaxConns: overloadConns, MaxWaiting: most}}))
	release := holdAll(t, db.Pool())
	results := make(chan error, overload*overloadConns)
	for range cap(results) {
		go func() {
			_, err := db.Pool().Exec(t.Context(), "select 1")
			results <- err
		}()
	}
	for range cap(results) - most { // while all connections are held
		require.ErrorIs(t, <-results, pgfx.ErrOverload)
	}
	assert.Equal(t, most, db.Stats().Pool.Waiting)
	release()
	for range most {
		require.NoError(t, <-results)
	}
}

// TestOverload_ShedsWhileConnectionsChangeHands runs many callers. At no time may more of them wait than MaxWaiting, and those that
// the connections serve.
func TestOverload_ShedsWhileConnectionsChangeHands(t *testing.T) {
	t.Parallel()
	const most = 2 * overloadConns
	db := fxtest.DB(t, fxtest.Config(pgfx.Config{Pool: pgfx.PoolConfig{MaxConns: overloadConns, MaxWaiting: most}}))
	var (
		shed    atomic.Int64
		mu      sync.Mutex
		longest int
		working sync.WaitGroup
	)
	for range overload * overloadConns {
		working.Go(func() {
			for calls := 0; calls < 3; {
				_, err := db.Pool().Exec(t.Context(), "select 1")
				mu.Lock()
				longest = max(longest, db.Stats().Pool.Waiting)
				mu.Unlock()
				if errors.Is(err, pgfx.ErrOverload) {
					shed.Add(1)
					time.Sleep(time.Millisecond)
					continue
				}
				if err != nil {
					t.Error(err)
				}
				calls++
			}
		})
	}
	working.Wait()
	assert.Positive(t, shed.Load())
	assert.LessOrEqual(t, longest, most+2*overloadConns, "acquires in progress")
}

// holdAll acquires all connections of a pool.
func holdAll(t *testing.T, pool *pgxpool.Pool) (release func()) {
	t.Helper()
	var conns []*pgxpool.Conn
	for range overloadConns {
		conn, err := pool.Acquire(t.Context())
		require.NoError(t, err)
		conns = append(conns, conn)
	}
	return func() {
		for _, conn := range conns {
			conn.Release()
		}
	}
}

// BenchmarkOverload prints how throughput and waiting change with the number of callers, beside plain pgxpool. With -update it also
// writes the table into docs/reliability.md:
//
//	make overload
func BenchmarkOverload(b *testing.B) {
	url := fxtest.URL(b)
	plain, err := pgxpool.ParseConfig(url)
	require.NoError(b, err)
	plain.MaxConns = overloadConns
	plainPool, err := pgxpool.NewWithConfig(b.Context(), plain)
	require.NoError(b, err)
	b.Cleanup(plainPool.Close)
	pools := []struct {
		name string
		pool *pgxpool.Pool
	}{
		{"rdsfx", openOverloaded(b, url, 0)},
		{fmt.Sprintf("rdsfx, MaxWaiting %d", 2*overloadConns), openOverloaded(b, url, 2*overloadConns)},
		{"pgxpool", plainPool},
	}
	var table strings.Builder
	fmt.Fprintf(&table, "%d connections; each call holds one for 4 ms.\n\n", overloadConns)
	table.WriteString("| callers | pool | calls/s | of its peak | p50 | p99 | p99.9 | longest | shed |\n|---|---|---|---|---|---|---|---|---|\n")
	peaks := make(map[string]float64)
	var problems []string
	for b.Loop() {
		for _, factor := range []int{1, 4, 16, overload} {
			for _, p := range pools {
				r := overloaded(b, p.pool, factor*overloadConns)
				peaks[p.name] = max(peaks[p.name], r.rate)
				if p.pool != plainPool && r.rate < 0.9*peaks[p.name] {
					problems = append(problems, fmt.Sprintf("%s with %d callers: throughput is more than 10 %% below its peak", p.name, factor*overloadConns))
				}
				fmt.Fprintf(&table, "| %d | %s | %.0f | %.0f %% | %s | %s | %s | %s | %d |\n", factor*overloadConns, p.name, r.rate,
					100*r.rate/peaks[p.name], rounded(percentile(r.took, 0.5)), rounded(percentile(r.took, 0.99)),
					rounded(percentile(r.took, 0.999)), rounded(r.took[len(r.took)-1]), r.shed)
			}
		}
	}
	b.ReportMetric(0, "ns/op") // meaningless here
	publish(b, "overload", table.String()+bullets(problems), len(problems))
}

type overloadResult struct {
	rate float64
	took []time.Duration // of the calls that were served, sorted
	shed int
}

// overloaded lets callers work for some seconds. A caller that was shed waits for the time of some calls.
func overloaded(b *testing.B, pool *pgxpool.Pool, callers int) overloadResult {
	b.Helper()
	const lasts = 3 * time.Second
	var (
		working sync.WaitGroup
		mu      sync.Mutex
		result  overloadResult
		began   = time.Now()
	)
	for range callers {
		working.Go(func() {
			var own overloadResult
			for time.Since(began) < lasts {
				call := time.Now()
				_, err := pool.Exec(b.Context(), overloadWork)
				switch {
				case errors.Is(err, pgfx.ErrOverload):
					own.shed++
					time.Sleep(20 * time.Millisecond)
				case err != nil:
					b.Error(err)
					return
				default:
					own.took = append(own.took, time.Since(call))
				}
			}
			mu.Lock()
			defer mu.Unlock()
			result.took, result.shed = append(result.took, own.took...), result.shed+own.shed
		})
	}
	working.Wait()
	result.rate = float64(len(result.took)) / time.Since(began).Seconds()
	slices.Sort(result.took)
	return result
}

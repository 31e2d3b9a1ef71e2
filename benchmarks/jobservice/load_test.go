package jobservice_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

const (
	clients      = 16              // concurrent clients, each on a separate connection
	requestLimit = 5 * time.Second // the timeout of a client
	rows         = 1000            // users and jobs of each contender
)

// operation is a kind of request.
type operation struct {
	name string
	// client returns the function that sends the next request of the client with this number.
	client func(ctx context.Context, c *contender, number int) func() (response, error)
}

func operations() []operation {
	configuration := map[string]any{"topic": "go", "sections": 3}
	return []operation{
		{"`GET /v1/jobs/{id}`", func(ctx context.Context, c *contender, _ int) func() (response, error) {
			return func() (response, error) { return c.send(ctx, http.MethodGet, "/v1/jobs/"+anyOf(c.jobs), nil, "") }
		}},
		{"`GET /v1/jobs?limit=20`", func(ctx context.Context, c *contender, _ int) func() (response, error) {
			return func() (response, error) { return c.send(ctx, http.MethodGet, "/v1/jobs?limit=20", nil, "") }
		}},
		{"`POST /v1/jobs`", func(ctx context.Context, c *contender, _ int) func() (response, error) {
			return func() (response, error) {
				job := map[string]any{"id": uuid.New(), "user_id": anyOf(c.users), "configuration": configuration}
				return c.send(ctx, http.MethodPost, "/v1/jobs", job, "")
			}
		}},
		{"`PUT /v1/jobs/{id}`", func(ctx context.Context, c *contender, number int) func() (response, error) {
			path, etag := "/v1/jobs/"+c.jobs[number].String(), ""
			return func() (response, error) {
				if etag == "" {
					r, err := c.send(ctx, http.MethodGet, path, nil, "")
					if err != nil || r.status != http.StatusOK {
						return r, err
					}
					etag = r.etag
				}
				r, err := c.send(ctx, http.MethodPut, path, map[string]any{"configuration": configuration}, etag)
				etag = r.etag
				return r, err
			}
		}},
		{"`PUT /v1/users/{id}`", func(ctx context.Context, c *contender, number int) func() (response, error) {
			return func() (response, error) {
				i := rand.IntN(rows/clients)*clients + number // no other client writes it
				user := map[string]any{"email": fmt.Sprintf("user%d@example.com", i), "username": "a user"}
				return c.send(ctx, http.MethodPut, fmt.Sprintf("/v1/users/user_%d", i), user, "")
			}
		}},
	}
}

func anyOf(ids []uuid.UUID) string { return ids[rand.IntN(len(ids))].String() }

// tick is the unit of processor times in /proc.
const tick = 10 * time.Millisecond

// sample is what some requests took.
type sample struct {
	latencies []time.Duration
	failures  int
	took, cpu time.Duration // cpu is the processor time of the service
}

func (s *sample) add(other sample) {
	s.latencies = append(s.latencies, other.latencies...)
	s.failures += other.failures
	s.took += other.took
	s.cpu += other.cpu
}

func (s *sample) percentile(p float64) time.Duration {
	slices.Sort(s.latencies)
	return s.latencies[int(p*float64(len(s.latencies)-1))]
}

func (s *sample) rate() float64 { return float64(len(s.latencies)) / s.took.Seconds() }

// run lets all clients send requests for some time.
func run(ctx context.Context, op operation, c *contender, lasts time.Duration) sample {
	var (
		mu      sync.Mutex
		working sync.WaitGroup
		total   sample
	)
	cpu, began := cpuTime(c.pid), time.Now()
	for number := range clients {
		working.Go(func() {
			var own sample
			next := op.client(ctx, c, number)
			for time.Since(began) < lasts {
				sent := time.Now()
				r, err := next()
				own.latencies = append(own.latencies, time.Since(sent))
				if err != nil || r.status >= http.StatusBadRequest {
					own.failures++
				}
			}
			mu.Lock()
			defer mu.Unlock()
			total.add(own)
		})
	}
	working.Wait()
	total.took, total.cpu = time.Since(began), cpuTime(c.pid)-cpu
	return total
}

// cpuTime returns the processor time that a process has used, to 10 ms, or 0 if this system does not tell.
func cpuTime(pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), ") ") // after the name of the executable
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	var ticks int64
	for _, field := range fields[11:13] { // in user mode and in the kernel
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0
		}
		ticks += n
	}
	return time.Duration(ticks) * tick
}

// takeTurns measures all operations: in each round, each contender gets one turn for each operation.
func takeTurns(ctx context.Context, contenders []*contender, rounds int, turn time.Duration) map[string][]sample {
	samples := make(map[string][]sample)
	for _, op := range operations() {
		found := make([]sample, len(contenders))
		for _, c := range contenders {
			run(ctx, op, c, turn/4) // connections, prepared statements, caches
		}
		for round := range rounds {
			for i := range contenders {
				i = (i + round) % len(contenders)
				found[i].add(run(ctx, op, contenders[i], turn))
			}
		}
		samples[op.name] = found
	}
	return samples
}

// table returns the samples in Markdown.
func table(contenders []*contender, samples map[string][]sample) string {
	var b strings.Builder
	b.WriteString("| endpoint | service | requests/s | p50 | p99 | CPU of the service per request | failed |\n|---|---|---|---|---|---|---|\n")
	for _, op := range operations() {
		for i, s := range samples[op.name] {
			cpu := "–"
			if s.cpu > 0 {
				cpu = fmt.Sprintf("%d µs", s.cpu.Microseconds()/int64(len(s.latencies)))
			}
			fmt.Fprintf(&b, "| %s | %s | %.0f | %s | %s | %s | %d |\n", op.name, contenders[i].name, s.rate(),
				milliseconds(s.percentile(0.5)), milliseconds(s.percentile(0.99)), cpu, s.failures)
		}
	}
	return b.String()
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}

func TestLoad_SamplesCountFailures(t *testing.T) {
	t.Parallel()
	responses := []response{{status: http.StatusOK}, {status: http.StatusServiceUnavailable}}
	op := operation{"op", func(context.Context, *contender, int) func() (response, error) {
		n := 0
		return func() (response, error) { n++; return responses[n%2], nil }
	}}
	s := run(t.Context(), op, &contender{pid: os.Getpid()}, time.Millisecond)
	require.InDelta(t, len(s.latencies), 2*s.failures, clients)
	require.LessOrEqual(t, s.percentile(0.5), s.percentile(0.99))
	require.Positive(t, s.rate())
}

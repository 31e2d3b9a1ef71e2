package chaos_test

import (
	"context"
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
)

// sample is the state of a process at a moment, and the latencies since the previous one.
type sample struct {
	Sample bool          `json:"sample"`
	At     time.Duration `json:"at"` // since the start of the process

	Heap       float64 `json:"heap"` // live bytes
	Goroutines float64 `json:"goroutines"`
	Files      float64 `json:"files"`
	Conns      float64 `json:"conns"`

	Calls, Failed  int
	P50, P99, P999 time.Duration
}

// sampler collects latencies between two samples.
type sampler struct {
	mu     sync.Mutex
	took   []time.Duration
	failed int
}

func (s *sampler) add(took time.Duration, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.failed++
		return
	}
	s.took = append(s.took, took)
}

var processStart = time.Now()

// sample waits for the interval and records a sample.
func (b *bank) sample(ctx context.Context) {
	select {
	case <-time.After(b.config.SampleEvery):
	case <-ctx.Done():
		return
	}
	b.sampler.mu.Lock()
	took, failed := b.sampler.took, b.sampler.failed
	b.sampler.took, b.sampler.failed = nil, 0
	b.sampler.mu.Unlock()
	slices.Sort(took)
	calls := len(took)
	s := sample{
		Sample: true, At: time.Since(processStart), Calls: calls, Failed: failed,
		P50: percentile(took, 0.5), P99: percentile(took, 0.99), P999: percentile(took, 0.999),
		Goroutines: float64(runtime.NumGoroutine()), Files: float64(len(openFiles())), Conns: float64(b.db.DB.Stats().Pool.Open),
	}
	runtime.GC() //nolint:revive // measures what is live
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	s.Heap = float64(memory.HeapAlloc)
	b.records.write(s)
}

// TestSoak_StaysFlat runs one application for RDSFX_CHAOS_MINUTES, with its connections cut from time to time. Its memory,
// goroutines, connections and files must not grow. Without the variable it runs for some seconds, which proves little.
func TestSoak_StaysFlat(t *testing.T) {
	t.Parallel()
	minutes := envNumber(t, "RDSFX_CHAOS_MINUTES", 0)
	lasts, every, cut := 4*time.Second, 100*time.Millisecond, time.Second
	if minutes > 0 {
		lasts, every, cut = time.Duration(minutes)*time.Minute, 2*time.Second, 20*time.Second
	}
	server := faults.NewServer(t)
	proxy := faults.NewProxy(t, server.URL())
	s := &scene{TB: t, dir: t.ArtifactDir(), writer: server, proxies: map[*faults.Server]*faults.Proxy{server: proxy}}
	s.createBank()
	s.publishPassword(server.URL())
	s.publishAddress()
	s.startWith(processConfig{Kind: "rdsfx", SampleEvery: every})
	for began := time.Now(); time.Since(began) < lasts; {
		time.Sleep(min(cut, lasts-time.Since(began)))
		proxy.ResetConnections()
	}
	s.stop()

	p := s.ended[0]
	samples := slices.DeleteFunc(readRecords[sample](t, p.config.records()), func(s sample) bool { return !s.Sample })
	require.NotEmpty(t, samples)
	report := newBankReport(0)
	report.addLeftovers(p, readRecords[record](t, p.config.records()))
	problems := slices.Concat(report.problems, s.leftovers(), readLedger(t, server, "").violations())
	table, grown := soakTable(samples)
	if minutes > 0 {
		problems = append(problems, grown...)
	}
	assert.Empty(t, problems)
	dir := s.dir
	if *update {
		dir = "../../docs"
	}
	saveLatencies(t, samples, filepath.Join(dir, "soak.svg"))
	text := fmt.Sprintf("%s, connections cut every %s.\n\n%s\n![Latencies of transfers](soak.svg)\n", lasts, cut, table)
	publish(t, "soak", text+bullets(problems), len(problems))
}

// soakTable returns a table of the trends, and which of them grow. The first tenth of the samples is not counted, because caches
// fill.
func soakTable(samples []sample) (table string, grown []string) {
	samples = samples[len(samples)/10:]
	metrics := []struct {
		name  string
		value func(sample) float64
		slack float64 // growth that counts as none, beside 2 % of the mean
	}{
		{"live heap, KiB", func(s sample) float64 { return s.Heap / 1024 }, 1024},
		{"goroutines", func(s sample) float64 { return s.Goroutines }, 1},
		{"connections", func(s sample) float64 { return s.Conns }, 0.5},
		{"file descriptors", func(s sample) float64 { return s.Files }, 1},
		{"p50 of transfers, ms", func(s sample) float64 { return float64(s.P50) / 1e6 }, math.Inf(1)},
		{"p99 of transfers, ms", func(s sample) float64 { return float64(s.P99) / 1e6 }, math.Inf(1)},
	}
	var b strings.Builder
	b.WriteString("| | mean | least | most | slope per hour | growth in the run |\n|---|---|---|---|---|---|\n")
	for _, m := range metrics {
		x, y := make([]float64, len(samples)), make([]float64, len(samples))
		for i, s := range samples {
			x[i], y[i] = s.At.Hours(), m.value(s)
		}
		slope, mean := regression(x, y)
		growth := slope * (x[len(x)-1] - x[0])
		fmt.Fprintf(&b, "| %s | %.1f | %.1f | %.1f | %+.2f | %+.2f |\n", m.name, mean, slices.Min(y), slices.Max(y), slope, growth)
		if growth > m.slack+0.02*mean {
			grown = append(grown, fmt.Sprintf("%s: grew by %.2f", m.name, growth))
		}
	}
	calls, failed := 0, 0
	for _, s := range samples {
		calls, failed = calls+s.Calls, failed+s.Failed
	}
	fmt.Fprintf(&b, "\n%d transfers succeeded, %d failed.\n", calls, failed)
	return b.String(), grown
}

// regression returns the slope of the least-squares line through the points, and the mean of y.
func regression(x, y []float64) (slope, mean float64) {
	n := float64(len(x))
	var sumX, sumY, sumXX, sumXY float64
	for i := range x {
		sumX, sumY, sumXX, sumXY = sumX+x[i], sumY+y[i], sumXX+x[i]*x[i], sumXY+x[i]*y[i]
	}
	spread := n*sumXX - sumX*sumX
	if spread == 0 {
		return 0, sumY / n
	}
	return (n*sumXY - sumX*sumY) / spread, sumY / n
}

func TestSoakTable_FindsPlantedGrowth(t *testing.T) {
	t.Parallel()
	flat := make([]sample, 100)
	for i := range flat {
		noise := float64(i * 7919 % 13)
		flat[i] = sample{At: time.Duration(i) * time.Minute, Heap: 8<<20 + noise*1e4, Goroutines: 40 + noise, Files: 20, Conns: 8}
	}
	_, grown := soakTable(flat)
	assert.Empty(t, grown)
	for i := range flat {
		flat[i].Goroutines += float64(i) / 20
		flat[i].Heap += float64(i) * 20_000
	}
	_, grown = soakTable(flat)
	assert.Len(t, grown, 2)
}

// saveLatencies draws the percentiles over time.
func saveLatencies(t *testing.T, samples []sample, file string) {
	t.Helper()
	p := plot.New()
	p.BackgroundColor = color.White
	p.X.Label.Text, p.Y.Label.Text = "minutes", "ms"
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	p.Legend.Top = true
	for i, line := range []struct {
		name  string
		value func(sample) time.Duration
	}{
		{"p50", func(s sample) time.Duration { return s.P50 }},
		{"p99", func(s sample) time.Duration { return s.P99 }},
		{"p99.9", func(s sample) time.Duration { return s.P999 }},
	} {
		var points plotter.XYs
		for _, s := range samples {
			if took := line.value(s); took > 0 {
				points = append(points, plotter.XY{X: s.At.Minutes(), Y: float64(took) / 1e6})
			}
		}
		curve, err := plotter.NewLine(points)
		require.NoError(t, err)
		curve.Color = plotutil.Color(i)
		p.Add(curve)
		p.Legend.Add(line.name, curve)
	}
	require.NoError(t, p.Save(16*vg.Centimeter, 7*vg.Centimeter, file))
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, string(content), "<svg")
}

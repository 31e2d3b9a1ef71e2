package health_test

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

// BenchmarkRecovery compares a pool of this library with a plain pgxpool under the same faults. It measures what callers see and
// how long it takes until their statements succeed again. It prints the table of docs/recovery.md:
//
//	make recovery
//
// With -update it also writes the table into that page, if all faults were measured. It is a benchmark because its figures have
// no limits to keep; the tests of this package check the behaviour.
func BenchmarkRecovery(b *testing.B) {
	head := []string{
		"fault", "lasts", "deadline", "pool", "first success", "all callers", "longest call", "median failure", "failures", "dials",
		"dials/s down", "dials/s at most",
	}
	rows := [][]string{head, slices.Repeat([]string{"---"}, len(head))}
	complete := true
	for _, f := range recoveryFaults() {
		measured := len(rows)
		b.Run(f.name, func(b *testing.B) {
			for range b.N {
				rows = append(rows, f.run(b)...)
			}
			b.ReportMetric(0, "ns/op") // meaningless here
		})
		complete = complete && len(rows) > measured
	}
	var table strings.Builder
	for _, row := range rows {
		table.WriteString(strings.ReplaceAll("| "+strings.Join(row, " | ")+" |\n", " --- ", "---"))
	}
	_, _ = fmt.Fprint(os.Stdout, table.String())
	if *update && complete {
		writeRecoveryTable(b, table.String())
	}
}

var update = flag.Bool("update", false, "write the table of BenchmarkRecovery into docs/recovery.md")

// writeRecoveryTable replaces the table of docs/recovery.md, whose lines are the first ones of the page that begin with |.
func writeRecoveryTable(b *testing.B, table string) {
	b.Helper()
	const path = "../docs/recovery.md"
	page, err := os.ReadFile(path)
	require.NoError(b, err)
	before, rest, found := strings.Cut(string(page), "\n| fault |")
	_, after, ended := strings.Cut(rest, "\n\n")
	require.True(b, found && ended, "the page has a table")
	require.NoError(b, os.WriteFile(path, []byte(before+"\n"+table+"\n"+after), 0o600))
}

// fault is one row of the table.
type fault struct {
	name     string
	lasts    time.Duration                              // 0: the server stays reachable
	deadline time.Duration                              // of each call
	work     func(context.Context, *pgxpool.Pool) error // one call, by default select 1
	idle     bool                                       // callers start after the fault has begun and the pool has been idle
	apps     int                                        // applications with conns connections and callers each; 0 means one application
	conns    int                                        // of each application, by default 1
	callers  int                                        // of one application on a separate server, by default recoveryCallers on a shared one
	prepare  func(*testing.B) outage
}

// outage is a fault of a server. Recovery is measured from the return of end, or of begin if there is no end.
type outage struct {
	url     string
	connect func(context.Context, *pgx.ConnConfig) error // before each connection of either pool
	opts    []pgfx.Option                                // of the pool of this library alone
	begin   func(pools []*pgxpool.Pool)
	end     func()
}

const (
	recoveryConns   = 4
	recoveryCallers = 8
	recoveryPause   = 10 * time.Millisecond // between two calls
	recoveryWarmup  = 500 * time.Millisecond
	recoveryIdle    = 2 * time.Second
	recoveryLimit   = 40 * time.Second
)

// run exposes both pools to the fault and returns a row for each. Both run at the same time, unless many applications would
// disturb each other, or locks are involved.
func (f fault) run(b *testing.B) [][]string {
	b.Helper()
	if f.apps > 0 || f.callers > 0 {
		return append(f.measure(b, f.prepare(b), openMonitored), f.measure(b, f.prepare(b), openPlain)...)
	}
	return f.measure(b, f.prepare(b), openMonitored, openPlain)
}

func (f fault) measure(b *testing.B, o outage, kinds ...func(*testing.B, outage, *side) *pgxpool.Pool) [][]string {
	b.Helper()
	conns, callers := recoveryConns, recoveryCallers
	switch {
	case f.apps > 0:
		conns = max(f.conns, 1)
		callers = f.apps * conns
	case f.callers > 0:
		conns, callers = f.conns, f.callers
	}
	var (
		sides   []*side
		pools   []*pgxpool.Pool
		calling sync.WaitGroup
		stop    = make(chan struct{})
	)
	for _, open := range kinds {
		s := &side{conns: conns, calls: make([][]call, callers)}
		for range max(f.apps, 1) {
			s.dials = append(s.dials, &dialLog{})
			s.pools = append(s.pools, open(b, o, s))
			fill(b, s.pools[len(s.pools)-1], conns)
		}
		sides, pools = append(sides, s), append(pools, s.pools...)
	}
	callAll := func() {
		for _, s := range sides {
			for i := range callers {
				calling.Go(func() { s.call(i, f, stop) })
			}
		}
	}
	if f.idle {
		time.Sleep(recoveryIdle)
	} else {
		callAll()
		time.Sleep(recoveryWarmup)
	}
	began := time.Now()
	o.begin(pools)
	if f.idle {
		callAll()
	}
	counted := began
	if o.end != nil {
		time.Sleep(f.lasts - time.Since(began))
		o.end()
		counted = time.Now()
	}
	for _, s := range sides {
		for !s.recovered(counted) && time.Since(counted) < recoveryLimit {
			time.Sleep(recoveryPause)
		}
	}
	close(stop)
	calling.Wait()
	rows := make([][]string, 0, len(sides))
	for _, s := range sides {
		rows = append(rows, append([]string{f.name, shown(f.lasts), shown(f.deadline), s.name}, s.figures(began, counted)...))
	}
	return rows
}

func shown(d time.Duration) string {
	if d == 0 {
		return "–"
	}
	return d.String()
}

// side is one of the two pools that are compared.
type side struct {
	name  string
	conns int
	pools []*pgxpool.Pool
	dials []*dialLog // by pool

	mu    sync.Mutex
	calls [][]call // by caller
}

type call struct {
	began, ended time.Time
	err          error
}

// call runs statements until stop is closed.
func (s *side) call(caller int, f fault, stop <-chan struct{}) {
	pool := s.pools[caller%len(s.pools)]
	for {
		began := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), f.deadline)
		err := f.work(ctx, pool)
		cancel()
		s.mu.Lock()
		s.calls[caller] = append(s.calls[caller], call{began: began, ended: time.Now(), err: err})
		s.mu.Unlock()
		select {
		case <-stop:
			return
		case <-time.After(recoveryPause):
		}
	}
}

// recovered reports whether every caller has succeeded since then.
func (s *side) recovered(since time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, calls := range s.calls {
		if _, ok := firstSuccess(calls, since); !ok {
			return false
		}
	}
	return true
}

// firstSuccess returns the time from since until the first call that succeeded.
func firstSuccess(calls []call, since time.Time) (time.Duration, bool) {
	for _, c := range calls {
		if c.err == nil && !c.ended.Before(since) && (c.began.After(since) || c.ended.Sub(since) > recoveryPause/2) {
			return c.ended.Sub(since), true
		}
	}
	return 0, false
}

// figures returns the last columns of a row.
func (s *side) figures(began, counted time.Time) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var (
		successes, failures []time.Duration
		longest             time.Duration
	)
	for _, calls := range s.calls {
		if first, ok := firstSuccess(calls, counted); ok {
			successes = append(successes, first)
		}
		for _, c := range calls {
			if c.ended.Before(began) {
				continue
			}
			longest = max(longest, c.ended.Sub(c.began))
			if c.err != nil {
				failures = append(failures, c.ended.Sub(c.began))
			}
		}
	}
	slices.Sort(successes)
	slices.Sort(failures)
	first, all, median := "> "+recoveryLimit.String(), "> "+recoveryLimit.String(), "–"
	if len(successes) > 0 {
		first = rounded(successes[0])
	}
	if len(successes) == len(s.calls) {
		all = rounded(successes[len(successes)-1])
	}
	if len(failures) > 0 {
		median = rounded(failures[len(failures)/2])
	}
	return append([]string{first, all, rounded(longest), median, strconv.Itoa(len(failures))}, s.dialFigures(began, counted)...)
}

// dialFigures returns the last three columns, which count dials. The second counts those of one application within one second,
// before its first success. The third counts those of all applications within one second. s.mu must be held.
func (s *side) dialFigures(began, counted time.Time) []string {
	var dials []time.Time
	mostDown := 0
	for app, log := range s.dials {
		up, found := time.Time{}, false
		for caller := app; caller < len(s.calls); caller += len(s.pools) {
			if first, ok := firstSuccess(s.calls[caller], counted); ok && (!found || counted.Add(first).Before(up)) {
				up, found = counted.Add(first), true
			}
		}
		own := log.since(began)
		dials = append(dials, own...)
		if found {
			own = slices.DeleteFunc(own, up.Before)
		}
		mostDown = max(mostDown, mostInSecond(own))
	}
	slices.SortFunc(dials, time.Time.Compare)
	return []string{strconv.Itoa(len(dials)), strconv.Itoa(mostDown), strconv.Itoa(mostInSecond(dials))}
}

// mostInSecond returns the largest number of times within one second. The times must be sorted.
func mostInSecond(times []time.Time) (most int) {
	for first, i := 0, 0; i < len(times); i++ {
		for times[i].Sub(times[first]) >= time.Second {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// dialLog notes when a pool and its monitor dialed.
type dialLog struct {
	mu    sync.Mutex
	dials []time.Time
}

func (l *dialLog) add() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dials = append(l.dials, time.Now())
}

// since returns the times of the dials since began.
func (l *dialLog) since(began time.Time) []time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(l.dials), began.After)
}

func rounded(d time.Duration) string {
	switch {
	case d >= 10*time.Millisecond:
		return d.Round(time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	default:
		return d.Round(100 * time.Nanosecond).String()
	}
}

// dialed returns a connect function for the newest pool. It calls that of the outage and counts dials, those of cancel requests
// included.
func (s *side) dialed(o outage) func(context.Context, *pgx.ConnConfig) error {
	log := s.dials[len(s.dials)-1]
	return func(ctx context.Context, config *pgx.ConnConfig) error {
		if o.connect != nil {
			if err := o.connect(ctx, config); err != nil {
				return err
			}
		}
		dial := config.DialFunc
		config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			log.add()
			return dial(ctx, network, address)
		}
		return nil
	}
}

func openMonitored(b *testing.B, o outage, s *side) *pgxpool.Pool {
	b.Helper()
	s.name = "**rdsfx**"
	db, err := pgfx.Open(pgfx.Config{URL: o.url, Pool: pgfx.PoolConfig{MaxConns: s.conns}},
		append([]pgfx.Option{pgfx.WithBeforeConnect(s.dialed(o))}, o.opts...)...)
	require.NoError(b, err)
	monitor, err := health.NewMonitor(db)
	require.NoError(b, err)
	require.NoError(b, db.Start(b.Context()))
	require.NoError(b, monitor.Start(b.Context()))
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
		defer cancel()
		_ = monitor.Close(ctx)
		_ = db.Close(ctx)
	})
	return db.Pool()
}

func openPlain(b *testing.B, o outage, s *side) *pgxpool.Pool {
	b.Helper()
	s.name = "pgxpool"
	config, err := pgxpool.ParseConfig(o.url)
	require.NoError(b, err)
	config.MaxConns = int32(s.conns)
	config.BeforeConnect = s.dialed(o)
	pool, err := pgxpool.NewWithConfig(b.Context(), config)
	require.NoError(b, err)
	b.Cleanup(pool.Close)
	return pool
}

// fill opens all connections of a pool.
func fill(b *testing.B, pool *pgxpool.Pool, n int) {
	b.Helper()
	for _, conn := range hold(b, pool, n) {
		conn.Release()
	}
}

// hold acquires n connections.
func hold(b *testing.B, pool *pgxpool.Pool, n int) []*pgxpool.Conn {
	b.Helper()
	conns := make([]*pgxpool.Conn, 0, n)
	for range n {
		conn, err := pool.Acquire(b.Context())
		require.NoError(b, err)
		conns = append(conns, conn)
	}
	return conns
}

// BenchmarkProbe measures one probe.
func BenchmarkProbe(b *testing.B) {
	db, err := pgfx.Open(pgfx.Config{URL: server.URL(), Health: pgfx.HealthConfig{Interval: noInterval}})
	require.NoError(b, err)
	monitor, err := health.NewMonitor(db)
	require.NoError(b, err)
	require.NoError(b, db.Start(b.Context()))
	require.NoError(b, monitor.Start(b.Context()))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := monitor.ProbeNow(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	require.NoError(b, monitor.Close(context.Background()))
	require.NoError(b, db.Close(context.Background()))
}

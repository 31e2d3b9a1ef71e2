package health

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx/internal/fxgroup"
)

// Kind says which question a [Check] answers.
type CheckKind string

// The kinds.
const (
	// Readiness: can this instance serve now? The default.
	Readiness CheckKind = "readiness"
	// Liveness: is this process beyond help, so that only a restart mends it? Never depend on another system here: its
	// outage would restart every instance.
	Liveness CheckKind = "liveness"
	// Startup: has this instance finished starting? A startup check that has passed once is not run again.
	Startup CheckKind = "startup"
)

// Check is what another component contributes to the answers of a [Handler].
type Check struct {
	// Name says what is checked, for example "queue". It must be unique among the checks of a database.
	Name string
	// Kind says what a failure means. Default: Readiness.
	Kind CheckKind
	// Optional makes a failure a warning: it is shown and fails nothing.
	Optional bool
	// Timeout bounds one run. Default: 1 s.
	Timeout time.Duration
	// CacheFor is how long a result is used before the check runs again. Default: 1 s.
	CacheFor time.Duration
	// Run returns nil when all is well. Runs of one check never overlap; whoever asks meanwhile shares the run. ctx ends with
	// Timeout and when the monitor stops. When Run goes on beyond that, the check counts as failed until it returns. A
	// panic is a failure.
	Run func(ctx context.Context) error

	database string
}

// For returns a copy of c that belongs to the monitor of the database with this name (see rdsfx.ModuleFor). Without For, a
// check that is passed to [WithChecks] belongs to that monitor, and a check that is provided to Fx belongs to the default
// database's monitor.
func (c Check) For(database string) Check {
	c.database = database
	return c
}

// Database returns the name that [Check.For] set, or "".
func (c Check) Database() string { return c.database }

const (
	defaultCheckTimeout = time.Second
	defaultCacheFor     = time.Second
)

// CheckResult is the outcome of a run of a [Check].
type CheckResult struct {
	Name     string    `json:"name"`
	Kind     CheckKind `json:"kind"`
	Optional bool      `json:"optional,omitempty"`
	// At is when the run began and Took how long it lasted.
	At   time.Time     `json:"at"`
	Took time.Duration `json:"took"`
	// Err is nil when the check passed.
	Err error `json:"-"`
}

// ProvideChecks passes checks to the monitors of an Fx application: to the default database's monitor unless [Check.For] names
// another database. If a check needs a value from Fx, provide it with a constructor that has the result tag
// `group:"health.checks"`.
func ProvideChecks(checks ...Check) fx.Option { return fxgroup.Supply("health.checks", checks...) }

// check is a Check and what is known of its runs.
type checkState struct {
	Check

	mu        sync.Mutex
	last      CheckResult
	running   chan struct{} // closed when the run ends; nil when there is none
	startedAt time.Time     // of that run
	passed    bool          // ever
}

// checksOf returns those of a database, by name, with their defaults.
func checksOf(database string, all []Check) []*checkState {
	var own []*checkState
	for _, c := range all {
		if c.database != "" && c.database != database || c.Run == nil {
			continue
		}
		if c.Kind == "" {
			c.Kind = Readiness
		}
		if c.Timeout <= 0 {
			c.Timeout = defaultCheckTimeout
		}
		if c.CacheFor <= 0 {
			c.CacheFor = defaultCacheFor
		}
		own = append(own, &checkState{Check: c})
	}
	slices.SortStableFunc(own, func(a, b *checkState) int { return strings.Compare(a.Name, b.Name) })
	return own
}

// AddChecks adds checks to a monitor that exists already; those of another database are ignored. Use it where a check needs
// what itself needs the monitor. It is safe for concurrent use.
func (m *Monitor) AddChecks(checks ...Check) {
	added := checksOf(m.db.Name(), checks)
	m.mu.Lock()
	defer m.mu.Unlock()
	all := slices.Concat(m.checks, added)
	slices.SortStableFunc(all, func(a, b *checkState) int { return strings.Compare(a.Name, b.Name) })
	m.checks = all
}

// Checks runs the contributed checks of a kind, all at the same time, and returns their results by name. Results that are fresh
// enough are used again. ctx bounds the waiting and not the runs.
func (m *Monitor) Checks(ctx context.Context, kind CheckKind) []CheckResult {
	m.mu.Lock()
	all := m.checks
	m.mu.Unlock()
	var wanted []*checkState
	for _, c := range all {
		if c.Kind == kind {
			wanted = append(wanted, c)
		}
	}
	results := make([]CheckResult, len(wanted))
	var group sync.WaitGroup
	for i, c := range wanted {
		group.Go(func() { results[i] = m.result(ctx, c) })
	}
	group.Wait()
	return results
}

// result returns a check's result, of a run or of one that is recent enough.
func (m *Monitor) result(ctx context.Context, c *checkState) CheckResult {
	c.mu.Lock()
	if c.Kind == Startup && c.passed || !c.last.At.IsZero() && time.Since(c.last.At.Add(c.last.Took)) < c.CacheFor {
		defer c.mu.Unlock()
		return c.last
	}
	began := time.Now()
	none := CheckResult{Name: c.Name, Kind: c.Kind, Optional: c.Optional, At: began}
	if c.running == nil && !m.runCheck(c, none) {
		c.mu.Unlock()
		none.Err = ErrStopped
		return none
	}
	running, deadline := c.running, c.startedAt.Add(c.Timeout)
	c.mu.Unlock()

	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case <-running:
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.last
	case <-timer.C:
		none.Err = fmt.Errorf("no result within %v", c.Timeout)
	case <-ctx.Done():
		none.Err = context.Cause(ctx)
	}
	none.Took = time.Since(began)
	return none
}

// runCheck starts a run. It returns false when the monitor is stopped. The caller holds the check's lock.
func (m *Monitor) runCheck(c *checkState, result CheckResult) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	running := make(chan struct{})
	c.running, c.startedAt = running, result.At
	m.background.Go(func() {
		ctx, cancel := context.WithTimeout(m.lifetime, c.Timeout)
		defer cancel()
		result.Err = errors.New("it ended its goroutine")
		defer func() { // also when Run calls runtime.Goexit
			result.Took = time.Since(result.At)
			c.mu.Lock()
			defer c.mu.Unlock()
			c.last, c.running, c.passed = result, nil, c.passed || result.Err == nil
			close(running)
		}()
		defer func() {
			if p := recover(); p != nil {
				result.Err = fmt.Errorf("it panicked: %v", p)
			}
		}()
		result.Err = c.Run(ctx)
	})
	return true
}

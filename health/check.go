package health

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx/internal/fxgroup"
)

// CheckKind is the purpose of a [Check]: which of the [Handler]'s endpoints it affects.
type CheckKind string

// The kinds of checks.
const (
	// Readiness checks whether this instance can serve requests now. It is the default.
	Readiness CheckKind = "readiness"
	// Liveness checks whether this process still works; if not, only a restart helps. Never let it depend on another system,
	// whose outage would restart every instance.
	Liveness CheckKind = "liveness"
	// Startup checks whether this instance has finished starting. After a startup check has passed once, it does not run again.
	Startup CheckKind = "startup"
)

// Check is a health check of another component, such as a queue. Pass it to [WithChecks] or [ProvideChecks].
type Check struct {
	// Name identifies what is checked, for example "queue". It must be unique among the checks of a database.
	Name string
	// Kind is the purpose of the check. Default: Readiness.
	Kind CheckKind
	// Optional turns a failure into a warning, which is shown but does not fail the endpoint.
	Optional bool
	// Timeout bounds one run. Default: 1 s.
	Timeout time.Duration
	// CacheFor is how long a result is used before the check runs again. Default: 1 s.
	CacheFor time.Duration
	// Run returns nil if the component works. A panic counts as a failure. Runs of one check never overlap: callers that come
	// during a run share it. ctx ends after Timeout and when the monitor is closed. If Run does not return then, the check
	// counts as failed until it does.
	Run func(ctx context.Context) error

	database string
}

// For returns a copy of c that belongs to the monitor of the database with this name (see rdsfx.ModuleFor). Without For, a
// check that is provided to Fx belongs to the default database's monitor. Passed to [WithChecks], it belongs to that monitor.
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

// CheckResult is the result of one run of a [Check]. In JSON, Took is a number of nanoseconds.
type CheckResult struct {
	Name     string    `json:"name"`
	Kind     CheckKind `json:"kind"`
	Optional bool      `json:"optional,omitempty"`
	// At is when the run began and Took its duration.
	At   time.Time     `json:"at"`
	Took time.Duration `json:"took"`
	// Err is nil if the check passed. Its JSON key is "error".
	Err error `json:"-"`
}

// MarshalJSON writes r with Err as text.
func (r CheckResult) MarshalJSON() ([]byte, error) {
	type fields CheckResult
	return json.Marshal(struct {
		fields
		jsonError
	}{fields(r), textOf(r.Err)})
}

// ProvideChecks passes checks to the monitors of an Fx application: to the default database's monitor unless [Check.For] names
// another database. If a check needs a value from Fx, provide it with a constructor that has the result tag
// `group:"health.checks"`.
func ProvideChecks(checks ...Check) fx.Option { return fxgroup.Supply("health.checks", checks...) }

// checkState is a Check and the state of its runs.
type checkState struct {
	Check

	mu        sync.Mutex
	last      CheckResult
	running   chan struct{} // closed when the present run ends; nil if there is none
	startedAt time.Time     // of the present run
	passed    bool          // at least once
}

// checksOf returns the checks of a database, sorted by name and with their defaults.
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

// AddChecks adds checks to an existing monitor. Use it for a check that itself needs the monitor. A check of another database
// ([Check.For]) is ignored.
func (m *Monitor) AddChecks(checks ...Check) {
	added := checksOf(m.db.Name(), checks)
	m.mu.Lock()
	defer m.mu.Unlock()
	all := slices.Concat(m.checks, added)
	slices.SortStableFunc(all, func(a, b *checkState) int { return strings.Compare(a.Name, b.Name) })
	m.checks = all
}

// Checks runs the checks of a kind concurrently and returns their results, sorted by name. It uses a result that is not older
// than the check's CacheFor. ctx bounds the wait, not the runs: if it ends, the result carries its cause.
func (m *Monitor) Checks(ctx context.Context, kind CheckKind) []CheckResult {
	m.mu.Lock()
	all := m.checks
	m.mu.Unlock()
	var selected []*checkState
	for _, c := range all {
		if c.Kind == kind {
			selected = append(selected, c)
		}
	}
	results := make([]CheckResult, len(selected))
	var group sync.WaitGroup
	for i, c := range selected {
		group.Go(func() { results[i] = m.checkResult(ctx, c) })
	}
	group.Wait()
	return results
}

// checkResult returns the cached result of a check, or that of a run.
func (m *Monitor) checkResult(ctx context.Context, c *checkState) CheckResult {
	c.mu.Lock()
	if c.Kind == Startup && c.passed || !c.last.At.IsZero() && time.Since(c.last.At.Add(c.last.Took)) < c.CacheFor {
		defer c.mu.Unlock()
		return c.last
	}
	began := time.Now()
	failed := CheckResult{Name: c.Name, Kind: c.Kind, Optional: c.Optional, At: began}
	if c.running == nil && !m.startCheck(c, failed) {
		c.mu.Unlock()
		failed.Err = ErrClosed
		return failed
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
		failed.Err = fmt.Errorf("check did not return within %v", c.Timeout)
	case <-ctx.Done():
		failed.Err = context.Cause(ctx)
	}
	failed.Took = time.Since(began)
	return failed
}

// startCheck starts a run. It returns false if the monitor is closed. The caller must hold c.mu.
func (m *Monitor) startCheck(c *checkState, result CheckResult) bool {
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
		result.Err = errors.New("check called runtime.Goexit")
		defer func() { // also after runtime.Goexit
			result.Took = time.Since(result.At)
			c.mu.Lock()
			defer c.mu.Unlock()
			c.last, c.running, c.passed = result, nil, c.passed || result.Err == nil
			close(running)
		}()
		defer func() {
			if p := recover(); p != nil {
				result.Err = fmt.Errorf("check panicked: %v", p)
			}
		}()
		result.Err = c.Run(ctx)
	})
	return true
}

package cutover

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// Config configures a [Mover]. Zero fields mean the defaults. Give every process the same values.
type Config[V any] struct {
	// Canonical returns bytes that are equal if and only if two values are. Default: the JSON of the value with sorted keys, in
	// which the numbers keep their digits.
	Canonical func(V) ([]byte, error)
	// ExpiryTolerance is the difference between two expiries that still count as equal. Default: 1 s.
	ExpiryTolerance time.Duration

	// Lease is how long a process counts as alive after it was last heard of. Default: 5 s.
	Lease time.Duration
	// Poll is the interval at which a process reads the state and renews its lease. Default: 20 % of Lease.
	Poll time.Duration
	// Hold is how long a step may hold the writers before it is undone. It is also the longest wait for a lock. Default: 2 s.
	Hold time.Duration
	// CopyTimeout is the longest time that a write waits for its copy on the other side. Default: 1 s.
	CopyTimeout time.Duration

	// Repair is the interval at which a process works the repair log off. Default: 1 s.
	Repair time.Duration
	// RepairBatch is the number of keys that are repaired in one transaction. Default: 100.
	RepairBatch int
	// Sweep is the interval at which expired rows are deleted in PostgreSQL. Default: 1 min. pgfx.Off disables it.
	Sweep time.Duration
	// ShadowReads is the number of shadow reads that may be under way in a process. Further ones are dropped. Default: 32.
	ShadowReads int

	// Gates are the conditions of the steps.
	Gates Gates
	// Logger gets the name "cutover". Default: the database's logger.
	Logger *zap.Logger
}

// Gates are conditions that [Mover.Advance] checks. Zero fields mean the defaults.
type Gates struct {
	// MaxRepairs is how many keys may be in the repair log before a step. Steps that change the side of reads or the primary
	// hold the writers until it is empty, so keep it small. Default: 1,000.
	MaxRepairs int64
	// MaxMismatches is the number of mismatches of the last full verification at which ShadowRead may begin. Default: 0.
	MaxMismatches int64
	// MaxMismatchRate is the share of shadow reads that may differ at the step to ReadNew, from 0 to 1. Default: 0.
	MaxMismatchRate float64
	// MinComparisons is the number of shadow reads that the step to ReadNew needs in Window. Default: 1,000.
	MinComparisons int64
	// Window is the time in which shadow reads are counted, and for which ShadowRead must have lasted. Default: 10 min.
	Window time.Duration
	// Soak is how long ReadNew must last before PrimaryNew, and PrimaryNew before Done. Default: 0.
	Soak time.Duration
}

// withDefaults returns the configuration with defaults, or an error that names each invalid field.
func (c Config[V]) withDefaults() (Config[V], error) {
	var errs []error
	for _, f := range []struct {
		name     string
		value    *time.Duration
		fallback time.Duration
	}{
		{"ExpiryTolerance", &c.ExpiryTolerance, time.Second},
		{"Lease", &c.Lease, 5 * time.Second},
		{"Poll", &c.Poll, cmp.Or(c.Lease, 5*time.Second) / 5},
		{"Hold", &c.Hold, 2 * time.Second},
		{"CopyTimeout", &c.CopyTimeout, time.Second},
		{"Repair", &c.Repair, time.Second},
		{"Sweep", &c.Sweep, time.Minute},
		{"Gates.Window", &c.Gates.Window, 10 * time.Minute},
	} {
		*f.value = cmp.Or(*f.value, f.fallback)
		if *f.value < time.Millisecond && (f.name != "Sweep" || *f.value != pgfx.Off) {
			errs = append(errs, fmt.Errorf("field Config.%s is %v: use at least 1ms", f.name, *f.value))
		}
	}
	if c.Poll > c.Lease/2 {
		errs = append(errs, fmt.Errorf("field Config.Poll is %v and Config.Lease is %v: poll at least twice in a lease", c.Poll, c.Lease))
	}
	c.RepairBatch = cmp.Or(c.RepairBatch, 100)
	c.ShadowReads = cmp.Or(c.ShadowReads, 32)
	c.Gates.MaxRepairs = cmp.Or(c.Gates.MaxRepairs, 1000)
	c.Gates.MinComparisons = cmp.Or(c.Gates.MinComparisons, 1000)
	if c.RepairBatch < 1 || c.ShadowReads < 1 {
		errs = append(errs, fmt.Errorf("field Config.RepairBatch is %d, Config.ShadowReads is %d: use positive numbers",
			c.RepairBatch, c.ShadowReads))
	}
	if r := c.Gates.MaxMismatchRate; r < 0 || r > 1 {
		errs = append(errs, fmt.Errorf("field Config.Gates.MaxMismatchRate is %v: use a share from 0 to 1", r))
	}
	if c.Canonical == nil {
		c.Canonical = canonicalJSON[V]
	}
	return c, errors.Join(errs...)
}

package pgfx

import "time"

// StatsConfig says what the pool notes about those who use it.
type StatsConfig struct {
	// Slow is the time from which on a statement counts as slow: it is logged, and kept for DB.Slow. The time that the
	// application takes to read the rows is part of it. Default: 1 s. Off: none is.
	Slow time.Duration `env:"SLOW" json:"slow,omitempty" koanf:"slow" mapstructure:"slow" yaml:"slow,omitempty"`
	// Leak is the time from which on a connection that somebody holds is logged, with the stack of the acquire and its last
	// statement, and once more when it is returned. Default: 1 min. Off: never.
	LongLease time.Duration `env:"LONG_LEASE" json:"long_lease,omitempty" koanf:"long_lease" mapstructure:"long_lease" yaml:"long_lease,omitempty"`
	// Statements is how many different texts DB.Statements keeps, at most 10000; each takes about 3 KB, up to 7 KB when it is
	// slow or busy. When there are more, the one that took the least time makes room. Default: 500. Off: none are kept.
	Statements int `env:"STATEMENTS" json:"statements,omitempty" koanf:"statements" mapstructure:"statements" yaml:"statements,omitempty"`
	// Log writes each statement into the log at debug level, as in DB.Slow: with its normalised text, and so without values.
	// Default: false.
	Log bool `env:"LOG" json:"log,omitempty" koanf:"log" mapstructure:"log" yaml:"log,omitempty"`
	// Disabled switches off whatever takes a clock, a lock or memory for each statement and lease: of statements and leases
	// DB.Stats has their number and no times, DB.Statements, DB.Slow and DB.Leases are empty, and errors name no
	// holders of connections. Failures are counted all the same. Default: false.
	Disabled bool `env:"DISABLED" json:"disabled,omitempty" koanf:"disabled" mapstructure:"disabled" yaml:"disabled,omitempty"`
}

const (
	defaultSlow       = time.Second
	defaultLeak       = time.Minute
	defaultStatements = 500
	maxStatements     = 10_000
)

func (w *StatsConfig) setDefaults() {
	setDefault(&w.Slow, defaultSlow)
	setDefault(&w.LongLease, defaultLeak)
	setDefault(&w.Statements, defaultStatements)
}

func (v *validator) watch(w StatsConfig) {
	v.duration("Stats.Slow", w.Slow)
	v.duration("Stats.LongLease", w.LongLease)
	if w.Log && w.Disabled {
		v.add("Stats.Log", w.Log, "leave Stats.Disabled false: nobody looks at statements otherwise")
	}
	switch {
	case w.Statements < Off:
		v.add("Stats.Statements", w.Statements, "set 1 or more, 0 for the default or pgfx.Off (-1) to keep none")
	case w.Statements > maxStatements:
		v.add("Stats.Statements", w.Statements, "set 10000 or less")
	}
}

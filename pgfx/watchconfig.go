package pgfx

import "time"

// WatchConfig says what the pool notes about those who use it.
type WatchConfig struct {
	// Slow is the time from which on a statement counts as slow: it is logged, and kept for DB.Slow. The time that the
	// application takes to read the rows is part of it. Default: 1 s. Off: none is.
	Slow time.Duration `env:"SLOW" json:"slow,omitempty" koanf:"slow" mapstructure:"slow" yaml:"slow,omitempty"`
	// Leak is the time from which on a connection that somebody holds is logged, with the stack of the acquire and its last
	// statement, and once more when it is returned. Default: 1 min. Off: never.
	Leak time.Duration `env:"LEAK" json:"leak,omitempty" koanf:"leak" mapstructure:"leak" yaml:"leak,omitempty"`
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

func (w *WatchConfig) setDefaults() {
	setDefault(&w.Slow, defaultSlow)
	setDefault(&w.Leak, defaultLeak)
	setDefault(&w.Statements, defaultStatements)
}

func (v *validator) watch(w WatchConfig) {
	v.duration("Watch.Slow", w.Slow)
	v.duration("Watch.Leak", w.Leak)
	if w.Log && w.Disabled {
		v.add("Watch.Log", w.Log, "leave Watch.Disabled false: nobody looks at statements otherwise")
	}
	switch {
	case w.Statements < Off:
		v.add("Watch.Statements", w.Statements, "set 1 or more, 0 for the default or pgfx.Off (-1) to keep none")
	case w.Statements > maxStatements:
		v.add("Watch.Statements", w.Statements, "set 10000 or less")
	}
}

package pgfx

import "time"

// StatsConfig controls the statistics of the pool.
type StatsConfig struct {
	// Slow is the duration from which a statement counts as slow: it is logged, and kept for DB.Slow. Reading the rows is part
	// of the duration. Default: 1 s. Off disables the detection of slow statements.
	Slow time.Duration `env:"SLOW" json:"slow,omitempty" koanf:"slow" mapstructure:"slow" yaml:"slow,omitempty"`
	// LongLease is the duration from which a lease counts as long-held. It is logged with the stack of the acquire and the last
	// statement, and again when the connection is released. Default: 1 min. Off disables the detection.
	LongLease time.Duration `env:"LONG_LEASE" json:"long_lease,omitempty" koanf:"long_lease" mapstructure:"long_lease" yaml:"long_lease,omitempty"`
	// Statements is the number of different statement texts that DB.Statements keeps, at most 10000. Each takes about 5 KB. When
	// there are more, the text with the smallest total time is dropped. Default: 500. Off keeps none.
	Statements int `env:"STATEMENTS" json:"statements,omitempty" koanf:"statements" mapstructure:"statements" yaml:"statements,omitempty"`
	// Log logs every statement at debug level, with its normalized text and so without values. Default: false.
	Log bool `env:"LOG" json:"log,omitempty" koanf:"log" mapstructure:"log" yaml:"log,omitempty"`
	// Disabled turns off everything that takes time or memory for each statement and lease. DB.Stats then counts statements and
	// leases without durations. DB.Statements, DB.Slow and DB.Leases are empty, and errors name no holders of connections.
	// Failures are still counted and reported. Default: false.
	Disabled bool `env:"DISABLED" json:"disabled,omitempty" koanf:"disabled" mapstructure:"disabled" yaml:"disabled,omitempty"`
}

const (
	defaultSlow       = time.Second
	defaultLongLease  = time.Minute
	defaultStatements = 500
	maxStatements     = 10_000
)

func (c *StatsConfig) setDefaults() {
	setDefault(&c.Slow, defaultSlow)
	setDefault(&c.LongLease, defaultLongLease)
	setDefault(&c.Statements, defaultStatements)
}

func (v *validator) stats(c StatsConfig) {
	v.duration("Stats.Slow", c.Slow)
	v.duration("Stats.LongLease", c.LongLease)
	if c.Log && c.Disabled {
		v.add("Stats.Log", c.Log, "leave Stats.Disabled false: statements are not logged otherwise")
	}
	switch {
	case c.Statements < Off:
		v.add("Stats.Statements", c.Statements, "set 1 or more, 0 for the default or pgfx.Off (-1) to keep none")
	case c.Statements > maxStatements:
		v.add("Stats.Statements", c.Statements, "set 10000 or less")
	}
}

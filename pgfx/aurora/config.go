package aurora

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Config configures [Topology]. The zero Config suits an application that uses the endpoints of AWS.
type Config struct {
	// InstancePattern is the instance endpoint with ? in place of the instance's identifier, for example
	// "?.abc123.eu-west-1.rds.amazonaws.com", with an optional port. Set it if the application uses other names, such as CNAME
	// records. Default: derived from the DB's host, if that is an endpoint of AWS.
	InstancePattern string
	// RegionPatterns are the instance patterns of the other Regions of a global database, by Region. Without its pattern, an
	// instance in another Region is listed, but connections are not routed to it. Default: none.
	RegionPatterns map[string]string
	// WriterHosts are other names that mean the writer, and ReaderHosts other names that mean any reader.
	// Cluster and reader endpoints of AWS need no entry. A custom endpoint of AWS follows DNS unless it is listed here.
	WriterHosts, ReaderHosts []string
	// ReaderChoice selects the reader of a new connection to a reader endpoint. Default: [RoundRobin].
	ReaderChoice ReaderChoice
	// MaxReaderLag excludes readers that are further behind the writer. If it excludes all of them, DNS decides. Default: no limit.
	MaxReaderLag time.Duration
	// Interval is the time between two reads of the topology while nothing happens. Default: 30 s. TroubleInterval is that
	// while the writer is lost or has just changed, or while a Blue/Green switchover is in progress. Default: 100 ms.
	Interval, TroubleInterval time.Duration
	// SwitchTimeout bounds how long callers wait in the active phase of a Blue/Green switchover. Default: 30 s.
	SwitchTimeout time.Duration
	// Timeout bounds connecting to an instance, and reading the topology from it. Default: 2 s.
	Timeout time.Duration
}

// ReaderChoice selects a reader.
type ReaderChoice string

// The choices.
const (
	// RoundRobin takes the readers in turn.
	RoundRobin ReaderChoice = "round_robin"
	// LeastLag takes the reader that is the least behind the writer.
	LeastLag ReaderChoice = "least_lag"
)

const (
	defaultInterval        = 30 * time.Second
	defaultTroubleInterval = 100 * time.Millisecond
	defaultTimeout         = 2 * time.Second
	defaultSwitchTimeout   = 30 * time.Second
)

func (c Config) withDefaults() Config {
	if c.ReaderChoice == "" {
		c.ReaderChoice = RoundRobin
	}
	if c.Interval <= 0 {
		c.Interval = defaultInterval
	}
	if c.TroubleInterval <= 0 {
		c.TroubleInterval = defaultTroubleInterval
	}
	if c.SwitchTimeout <= 0 {
		c.SwitchTimeout = defaultSwitchTimeout
	}
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	return c
}

func (c Config) validate() error {
	if c.InstancePattern != "" {
		if err := validatePattern("InstancePattern", c.InstancePattern); err != nil {
			return err
		}
	}
	for region, pattern := range c.RegionPatterns {
		if err := validatePattern("RegionPatterns["+region+"]", pattern); err != nil {
			return err
		}
	}
	if c.ReaderChoice != "" && c.ReaderChoice != RoundRobin && c.ReaderChoice != LeastLag {
		return fmt.Errorf("aurora: Config.ReaderChoice is %q: use aurora.RoundRobin or aurora.LeastLag", c.ReaderChoice)
	}
	return nil
}

func validatePattern(field, pattern string) error {
	if strings.Count(pattern, "?") != 1 {
		return fmt.Errorf("aurora: Config.%s is %q: put one ? in place of the instance identifier, as in ?.abc123.eu-west-1.rds.amazonaws.com", field, pattern)
	}
	if _, port, err := net.SplitHostPort(pattern); err == nil {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return fmt.Errorf("aurora: Config.%s is %q: the port must be a number from 1 to 65535", field, pattern)
		}
	}
	return nil
}

// endpointOf returns what a host of the DB's address stands for.
func (c Config) endpointOf(host string) endpoint {
	parsed := parseEndpoint(host)
	equal := func(name string) bool { return strings.EqualFold(name, host) }
	switch {
	case slices.ContainsFunc(c.WriterHosts, equal):
		parsed.role = roleWriter
	case slices.ContainsFunc(c.ReaderHosts, equal):
		parsed.role = roleReader
	}
	return parsed
}

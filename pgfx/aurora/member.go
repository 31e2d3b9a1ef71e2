package aurora

import (
	"context"
	"slices"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

// member is a DB that belongs to a cluster.
type member struct {
	db        *pgfx.DB
	config    Config
	logger    *zap.Logger
	addresses []pgfx.Address
	roles     map[string]role // by host of the addresses
	pattern   string          // of the instance endpoints, "" if it is not known

	routes atomic.Pointer[routes]
	// substitutes are the routes of a Blue/Green switchover, by host. They take precedence.
	substitutes atomic.Pointer[map[string][]pgfx.Address]
	next        atomic.Uint64 // counts connections to readers
}

func newMember(db *pgfx.DB, config Config) *member {
	m := &member{
		db: db, config: config, logger: db.Logger().Named("aurora"), addresses: db.Internals().Addresses(),
		roles: make(map[string]role), pattern: config.InstancePattern,
	}
	if db.Name() != "" {
		m.logger = m.logger.With(zap.String("database_name", db.Name()))
	}
	for _, address := range m.addresses {
		parsed := config.endpointOf(address.Host)
		m.roles[address.Host] = parsed.role
		if m.pattern == "" {
			m.pattern = parsed.pattern
		}
	}
	return m
}

// read reads the topology over a connection.
func (m *member) read(ctx context.Context, db querier, kind pgfx.TopologyKind, blueGreen bool) (view, error) {
	ctx, cancel := context.WithTimeout(ctx, m.config.Timeout)
	defer cancel()
	v, err := readView(ctx, db, kind, m.addresses[0], m.patternOf(kind))
	if err == nil && blueGreen {
		v.blueGreen, err = readBlueGreen(ctx, db, kind)
	}
	return v, err
}

// hosts returns the hosts that a Blue/Green switchover moves.
func (m *member) hosts() []string {
	var list []string
	for _, address := range m.addresses {
		if to := m.roles[address.Host]; to != roleNone && to != roleProxy {
			list = append(list, address.Host)
		}
	}
	return list
}

// patternOf returns the instance pattern by Region. In a global database, only the Region of the DB's own address has the pattern
// of that address.
func (m *member) patternOf(kind pgfx.TopologyKind) func(region string) string {
	return func(region string) string {
		switch own, found := m.config.RegionPatterns[region]; {
		case found:
			return own
		case kind == pgfx.TopologyMultiAZ && m.config.InstancePattern == "": // the server reports the endpoints
			return ""
		case kind == pgfx.TopologyAuroraGlobal && m.config.InstancePattern == "" && regionOf(m.pattern) != region:
			return ""
		}
		return m.pattern
	}
}

// usesReaders reports whether an address of the DB means any reader.
func (m *member) usesReaders() bool {
	return slices.ContainsFunc(m.addresses, func(a pgfx.Address) bool { return m.roles[a.Host] == roleReader })
}

// route is the pgfx.RouteFunc of the DB.
func (m *member) route(host string, _ uint16) []pgfx.Address {
	if substitutes := m.substitutes.Load(); substitutes != nil {
		return (*substitutes)[host]
	}
	if current := m.routes.Load(); current != nil {
		return current.route(m.roles[host])
	}
	return nil
}

// signalsTrouble reports whether an error of the pool may mean that the cluster has changed.
func signalsTrouble(err error) bool {
	if sqlstate.Code(err) == sqlstate.ReadOnlySQLTransaction {
		return true
	}
	switch pgfx.CauseOf(err) {
	case pgfx.CauseNone, pgfx.CauseUnknown, pgfx.CauseLogin:
		return false
	default:
		return true
	}
}

package pgfx

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Address is where a connection goes.
type Address struct {
	// Host is the host name. TLS certificates are checked against it, unless Config.TLS.ServerName is set.
	Host string
	// Port is the TCP port. Default: the port of the DB's address.
	Port uint16
	// IPs are the addresses to connect to, in order, instead of those that Host resolves to. An entry may have a port, as in
	// 10.0.0.1:5433. Default: resolve Host.
	IPs []string
}

// RouteFunc returns where connections for a host of the DB's address go, in the order in which they are tried. If it returns
// none, the host stays as it is. It runs for every attempt to connect, so it must return quickly and be safe for concurrent use.
type RouteFunc func(host string, port uint16) []Address

// RouteConnections makes each new connection of the DB, in the pool and outside it, go to the addresses that fn returns. It applies
// before the functions of [WithBeforeConnect], which therefore see the host that is dialed. nil removes the routes. Package aurora
// uses it to connect to the writer while DNS still returns another instance.
func (i *Internals) RouteConnections(fn RouteFunc) { i.route.Store(&fn) }

// ConnectTo is [DB.Connect] for one server of the cluster, whatever the routes are.
func (i *Internals) ConnectTo(ctx context.Context, purpose string, to Address) (*pgx.Conn, error) {
	return i.db.connect(ctx, purpose, func(string, uint16) []Address { return []Address{to} })
}

// Addresses returns the hosts and ports of the DB's address, without duplicates. Sockets are left out.
func (i *Internals) Addresses() []Address {
	var list []Address
	for _, e := range endpointsOf(i.db.connConfig) {
		if network, _ := pgconn.NetworkAddress(e.Host, e.Port); network != "unix" &&
			!slices.ContainsFunc(list, func(a Address) bool { return a.Host == e.Host && a.Port == e.Port }) {
			list = append(list, Address{Host: e.Host, Port: e.Port})
		}
	}
	return list
}

// currentRoute returns the function of RouteConnections, or nil.
func (db *DB) currentRoute() RouteFunc {
	if fn := db.internals.route.Load(); fn != nil {
		return *fn
	}
	return nil
}

// endpointsOf returns the attempts of a configuration in their order: an attempt without TLS may follow one with TLS.
func endpointsOf(cc *pgx.ConnConfig) []*pgconn.FallbackConfig {
	first := &pgconn.FallbackConfig{Host: cc.Host, Port: cc.Port, TLSConfig: cc.TLSConfig}
	return append([]*pgconn.FallbackConfig{first}, cc.Fallbacks...)
}

// applyRoute replaces the hosts of a configuration by those that route returns. It returns the IP addresses by host.
func applyRoute(cc *pgx.ConnConfig, route RouteFunc) map[string][]string {
	if route == nil {
		return nil
	}
	var (
		routed []*pgconn.FallbackConfig
		ips    map[string][]string
	)
	for group := range sameHost(endpointsOf(cc)) {
		addresses := route(group[0].Host, group[0].Port)
		if len(addresses) == 0 {
			routed = append(routed, group...)
		}
		for _, address := range addresses {
			for _, endpoint := range group {
				routed = append(routed, address.replace(endpoint))
			}
			if len(address.IPs) > 0 {
				if ips == nil {
					ips = make(map[string][]string)
				}
				ips[address.Host] = address.IPs
			}
		}
	}
	cc.Host, cc.Port, cc.TLSConfig, cc.Fallbacks = routed[0].Host, routed[0].Port, routed[0].TLSConfig, routed[1:]
	return ips
}

// sameHost yields the runs of attempts with the same host and port.
func sameHost(endpoints []*pgconn.FallbackConfig) func(yield func([]*pgconn.FallbackConfig) bool) {
	return func(yield func([]*pgconn.FallbackConfig) bool) {
		for len(endpoints) > 0 {
			n := 1
			for n < len(endpoints) && endpoints[n].Host == endpoints[0].Host && endpoints[n].Port == endpoints[0].Port {
				n++
			}
			if !yield(endpoints[:n]) {
				return
			}
			endpoints = endpoints[n:]
		}
	}
}

// replace returns a copy of an attempt with the address a. The server name that TLS checks follows the host, unless it was
// configured separately.
func (a Address) replace(endpoint *pgconn.FallbackConfig) *pgconn.FallbackConfig {
	replaced := &pgconn.FallbackConfig{Host: a.Host, Port: endpoint.Port, TLSConfig: endpoint.TLSConfig}
	if a.Port != 0 {
		replaced.Port = a.Port
	}
	if replaced.TLSConfig != nil && replaced.TLSConfig.ServerName == endpoint.Host {
		replaced.TLSConfig = replaced.TLSConfig.Clone()
		replaced.TLSConfig.ServerName = a.Host
	}
	return replaced
}

// resolveTo makes the hosts in ips resolve to their addresses there.
func resolveTo(cc *pgx.ConnConfig, ips map[string][]string) {
	if len(ips) == 0 {
		return
	}
	next := cc.LookupFunc
	cc.LookupFunc = func(ctx context.Context, host string) ([]string, error) {
		if known := ips[host]; known != nil {
			return known, nil
		}
		return next(ctx, host)
	}
}

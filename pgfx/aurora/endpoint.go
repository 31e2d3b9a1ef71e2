package aurora

import (
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// role is what a host name stands for.
type role int

const (
	roleNone     role = iota // an IP address or a private name
	roleWriter               // a cluster endpoint
	roleReader               // a reader endpoint
	roleInstance             // an instance endpoint
	roleCustom               // a custom endpoint, whose members only AWS's API returns
	roleGlobal               // the writer endpoint of a global database
	roleProxy                // RDS Proxy, or a shard group of Aurora Limitless: it does the routing
)

// endpoint is a parsed host name.
type endpoint struct {
	role role
	name string // the cluster or the instance
	// pattern is the instance endpoint with ? for the name, "" if it cannot be derived.
	pattern string
}

// rdsSuffixes are the domains of RDS endpoints (Amazon Aurora User Guide, "Aurora endpoint connections"; the AWS partitions).
var rdsSuffixes = []string{
	".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu", ".amazonaws.au", ".amazonaws.uk", ".c2s.ic.gov", ".sc2s.sgov.gov",
}

// parseEndpoint parses a host name such as app.cluster-abc123.eu-west-1.rds.amazonaws.com.
func parseEndpoint(host string) endpoint {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	name, rest, _ := strings.Cut(host, ".")
	domain, zone, _ := strings.Cut(rest, ".")
	if domain == "endpoint" { // of RDS Proxy: name.endpoint.proxy-id.region.rds.amazonaws.com
		domain, zone, _ = strings.Cut(zone, ".")
	}
	if name == "" || domain == "" || !isRDSZone(zone) {
		return endpoint{}
	}
	for _, kind := range []struct {
		prefix string
		role   role
	}{
		{"cluster-custom-", roleCustom},
		{"cluster-ro-", roleReader},
		{"cluster-", roleWriter},
		{"proxy-", roleProxy},
		{"shardgrp-", roleProxy},
		{"global-", roleGlobal},
	} {
		id, found := strings.CutPrefix(domain, kind.prefix)
		if !found {
			continue
		}
		parsed := endpoint{role: kind.role, name: name}
		if kind.role != roleProxy && kind.role != roleGlobal {
			parsed.pattern = "?." + id + "." + zone
		}
		return parsed
	}
	return endpoint{role: roleInstance, name: name, pattern: "?." + rest}
}

// isRDSZone reports whether a name such as eu-west-1.rds.amazonaws.com is a domain of RDS.
func isRDSZone(zone string) bool {
	labels := strings.Split(zone, ".")
	return (slices.Contains(labels, "rds") || slices.Contains(labels, "rds-fips")) &&
		slices.ContainsFunc(rdsSuffixes, func(suffix string) bool { return strings.HasSuffix(zone, suffix) })
}

// followsCluster reports whether package aurora has something to do for the endpoint.
func (e endpoint) followsCluster() bool { return e.role != roleNone && e.role != roleProxy }

// instanceAddress returns the address of an instance by a pattern such as ?.abc123.eu-west-1.rds.amazonaws.com, which may have a
// port. It returns false without a pattern.
func instanceAddress(pattern, id string) (pgfx.Address, bool) {
	if pattern == "" || id == "" {
		return pgfx.Address{}, false
	}
	host := strings.Replace(pattern, "?", strings.ToLower(id), 1)
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		return pgfx.Address{Host: host}, true
	}
	number, _ := strconv.ParseUint(port, 10, 16) // validated by Config
	return pgfx.Address{Host: name, Port: uint16(number)}, true
}

// regionOf returns the Region in an instance pattern of AWS, "" if there is none.
func regionOf(pattern string) string {
	labels := strings.Split(pattern, ".")
	for i, label := range labels {
		if label != "rds" && label != "rds-fips" {
			continue
		}
		if i == 3 { //nolint:mnd // ?.id.region.rds
			return labels[2]
		}
		if i+1 < len(labels) { // ?.id.rds.region, in China
			return labels[i+1]
		}
	}
	return ""
}

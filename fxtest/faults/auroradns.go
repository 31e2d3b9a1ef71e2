package faults

import (
	"strings"
	"sync"
	"time"
)

// lateDNS resolves host names to servers. Changes of records become visible after a lag, as with the endpoints of AWS.
type lateDNS struct {
	zone string // names that end with it are unknown unless they have a record

	mu      sync.Mutex
	lag     time.Duration
	records map[string]*dnsRecord
}

type dnsRecord struct {
	targets []string // taken in turn
	next    int

	pending   []string
	isPending bool
	due       time.Time
}

func newLateDNS(zone string) *lateDNS {
	return &lateDNS{zone: zone, records: make(map[string]*dnsRecord)}
}

// lookup returns the address of a host, "" if it is unknown, and whether the host is in the zone.
func (d *lateDNS) lookup(host string) (target string, responsible bool) {
	host = strings.ToLower(host)
	d.mu.Lock()
	defer d.mu.Unlock()
	record := d.records[host]
	if record == nil {
		return "", strings.HasSuffix(host, d.zone)
	}
	if record.isPending && !time.Now().Before(record.due) {
		record.apply()
	}
	if len(record.targets) == 0 {
		return "", true
	}
	record.next++
	return record.targets[record.next%len(record.targets)], true
}

func (r *dnsRecord) apply() {
	r.targets, r.pending, r.isPending = r.pending, nil, false
}

// set changes a record after the lag. A new name resolves at once. No targets mean that the name is removed.
func (d *lateDNS) set(host string, targets ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	record := d.records[host]
	if record == nil {
		d.records[host] = &dnsRecord{targets: targets}
		return
	}
	record.pending, record.isPending, record.due = targets, true, time.Now().Add(d.lag)
}

// remove removes names at once.
func (d *lateDNS) remove(hosts ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, host := range hosts {
		delete(d.records, host)
	}
}

func (d *lateDNS) setLag(lag time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lag = lag
}

// update makes all changes visible.
func (d *lateDNS) update() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, record := range d.records {
		if record.isPending {
			record.apply()
		}
	}
}

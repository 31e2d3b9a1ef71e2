package aurora

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// phase is the phase of a Blue/Green deployment.
type phase int

const (
	phaseNone       phase = iota // no deployment
	phaseCreated                 // the green side follows the blue one
	phasePreparing               // a switchover was requested
	phaseInProgress              // neither side can be used
	phasePost                    // the green side accepts writes, but DNS may still lead to the blue one
	phaseCompleted
)

// statuses are the values of the column status, after the prefix SWITCHOVER_ (aws/aws-advanced-go-wrapper, "Blue/Green Deployment
// Plugin").
var statuses = map[string]phase{
	"AVAILABLE": phaseCreated, "INITIATED": phasePreparing, "IN_PROGRESS": phaseInProgress,
	"IN_POST_PROCESSING": phasePost, "COMPLETED": phaseCompleted,
}

func (p phase) String() string {
	return [...]string{"none", "created", "preparing", "in_progress", "post_processing", "completed"}[p]
}

// The values of the column role.
const (
	roleBlue  = "BLUE_GREEN_DEPLOYMENT_SOURCE"
	roleGreen = "BLUE_GREEN_DEPLOYMENT_TARGET"
)

// blueGreenRow is an endpoint of a deployment.
type blueGreenRow struct {
	Endpoint string
	Role     string
	Status   string
}

// blueGreenQueries read the deployment of a cluster. Multi-AZ DB clusters and global databases have none.
var blueGreenQueries = map[pgfx.TopologyKind]string{
	pgfx.TopologyAurora: `select endpoint::text, role::text, status::text
		from pg_catalog.get_blue_green_fast_switchover_metadata('rdsfx') where endpoint is not null`,
	pgfx.TopologyInstance: `select endpoint::text, role::text, status::text from rds_tools.show_topology('rdsfx') where endpoint is not null`,
}

// readBlueGreen returns the rows of a deployment. An error of the server means that there is none: so the function reports it.
func readBlueGreen(ctx context.Context, db querier, kind pgfx.TopologyKind) ([]blueGreenRow, error) {
	rows, err := db.Query(ctx, blueGreenQueries[kind], pgx.QueryExecModeExec)
	if err != nil {
		return nil, fmt.Errorf("aurora: read the Blue/Green deployment: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[blueGreenRow])
	if _, refused := errors.AsType[*pgconn.PgError](err); refused {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("aurora: read the Blue/Green deployment: %w", err)
	}
	return list, nil
}

// greenSuffix is what AWS adds to the names of the green side.
var greenSuffix = regexp.MustCompile(`^([^.]+)-green-[0-9a-z]{6}\.`)

// blueName returns the name that a green endpoint gets in the switchover, "" if it is not a green endpoint.
func blueName(green string) string {
	if !greenSuffix.MatchString(green) {
		return ""
	}
	return greenSuffix.ReplaceAllString(green, "$1.")
}

// deployment is a Blue/Green deployment as the monitor sees it. It has no clock and does no I/O.
type deployment struct {
	phase  phase
	since  time.Time        // of the phase
	sides  map[string]phase // the last phase that each side reported
	greens map[string]string
	known  map[string]string // address with port, by green host
	blues  map[string]bool   // addresses of the blue side
	moved  map[string]bool   // hosts whose DNS leads to the green side
	began  time.Time         // of the switchover's active phase
	events []event
	done   bool // nothing is left to do
}

// event is a line of the summary.
type event struct {
	name string
	at   time.Time
}

func newDeployment() *deployment {
	return &deployment{
		sides: make(map[string]phase), greens: make(map[string]string), known: make(map[string]string), moved: make(map[string]bool),
		blues: make(map[string]bool),
	}
}

// report takes the rows that an instance of one side has returned into account. It returns whether a switchover was rolled back.
func (d *deployment) report(side string, rows []blueGreenRow, now time.Time) (rolledBack bool) {
	reported := phaseNone
	for _, row := range rows {
		endpoint := strings.ToLower(row.Endpoint)
		if blue := blueName(endpoint); row.Role == roleGreen && blue != "" {
			d.greens[blue] = endpoint
		}
		if row.Role == side {
			reported = max(reported, statuses[strings.TrimPrefix(row.Status, "SWITCHOVER_")])
		}
	}
	before := d.sides[side]
	if reported == phaseNone { // a server that is being switched may have no rows
		if d.phase == phaseCreated && side == roleBlue {
			d.enter(phaseNone, now)
		}
		return false
	}
	first := len(d.sides) == 0
	d.sides[side] = reported
	switch {
	case first && reported >= phasePost: // addresses were not collected in time, so DNS decides
		d.phase, d.since, d.done = reported, now, true
	case reported == phaseCreated && (before == phasePreparing || before == phaseInProgress) && d.phase < phasePost:
		d.sides = map[string]phase{side: reported}
		d.enter(phaseCreated, now)
		return true
	case reported > d.phase:
		d.enter(reported, now)
	}
	return false
}

func (d *deployment) enter(p phase, now time.Time) {
	d.phase, d.since = p, now
	if p == phaseInProgress || p == phasePost && d.began.IsZero() {
		d.began = now
	}
	if p == phaseCreated {
		d.began = time.Time{}
	}
	d.events = append(d.events, event{p.String(), now})
}

// interval returns how often the sides have to be polled.
func (d *deployment) interval(c Config) time.Duration {
	switch {
	case d.done || d.phase == phaseNone:
		return c.Interval
	case d.phase == phasePreparing || d.phase == phaseInProgress:
		return c.TroubleInterval
	}
	return createdInterval
}

// isActive reports whether connections follow the deployment and not the cluster's own topology.
func (d *deployment) isActive() bool { return d.phase >= phasePost && !d.done }

// isSwitching reports whether callers have to wait, for limit at most. It is true if no side can be used, or if the address of the
// green one is not known yet.
func (d *deployment) isSwitching(hosts []string, now time.Time, limit time.Duration) bool {
	switch {
	case d.done || d.began.IsZero() || now.Sub(d.began) > limit:
		return false
	case d.phase == phaseInProgress:
		return true
	}
	return d.isActive() && slices.ContainsFunc(hosts, func(host string) bool { return d.addressFor(host) == "" })
}

// greenOf returns the green endpoint for a host: its counterpart, or the green side's cluster endpoint or instance.
func (d *deployment) greenOf(host string) string {
	host = strings.ToLower(host)
	if green := d.greens[host]; green != "" {
		return green
	}
	reader := parseEndpoint(host).role == roleReader
	for _, blue := range slices.Sorted(maps.Keys(d.greens)) {
		if parseEndpoint(blue).role == roleWriter {
			if derived := strings.Replace(d.greens[blue], ".cluster-", ".cluster-ro-", 1); reader && d.known[derived] != "" {
				return derived
			}
			return d.greens[blue]
		}
	}
	for _, blue := range slices.Sorted(maps.Keys(d.greens)) {
		return d.greens[blue]
	}
	return ""
}

func (d *deployment) addressFor(host string) string { return d.known[d.greenOf(host)] }

// route returns where a connection to a host of the blue side goes: to the green side's address. The certificate there is issued
// for the green name first and for the blue one later, so both are tried.
func (d *deployment) route(host string) []pgfx.Address {
	address := d.addressFor(host)
	if !d.isActive() || d.moved[host] || address == "" {
		return nil
	}
	ips := []string{address}
	return []pgfx.Address{{Host: host, IPs: ips}, {Host: d.greenOf(host), IPs: ips}}
}

// resolved takes into account to which address DNS leads for a host.
func (d *deployment) resolved(host, address string, hosts []string, now time.Time) (finished bool) {
	if !d.isActive() || address == "" || !d.isGreen(host, address) {
		return false
	}
	d.moved[host] = true
	if slices.ContainsFunc(hosts, func(host string) bool { return !d.moved[host] }) {
		return false
	}
	d.events = append(d.events, event{"dns_updated", now})
	d.done = true
	return true
}

// isGreen reports whether an address to which a host resolves is on the green side. The reader endpoint may lead to several.
func (d *deployment) isGreen(host, address string) bool {
	return address == d.addressFor(host) || parseEndpoint(host).role == roleReader && len(d.blues) > 0 && !d.blues[address]
}

// summary lists the events with their distance from the beginning of the active phase.
func (d *deployment) summary() string {
	lines := make([]string, len(d.events))
	for i, e := range d.events {
		lines[i] = e.name + " " + e.at.Sub(d.began).Round(time.Millisecond).String()
	}
	return strings.Join(lines, ", ")
}

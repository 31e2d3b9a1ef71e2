package health

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// Handler serves the health endpoints that orchestrators and load balancers poll. It uses only the last element of the path, so
// it can be mounted under any prefix and any router:
//
//   - /livez: 200 unless a liveness check fails. It never depends on a database, because an outage of the database must not
//     restart every instance of the application.
//   - /readyz: 200 while every database is usable, its setup steps have run, no readiness check fails and Drain was not called.
//   - /startupz: 200 once the setup steps of every database have run and each startup check has passed.
//   - /healthz: all of these as JSON, in the format of draft-inadarei-api-health-check.
//
// A failure is 503 and any other path 404. The first three return a status alone; ?verbose returns details as text. Details
// name hosts, roles and databases, but never passwords: restrict access to them.
//
// No request probes a database. The handler uses the monitor's last decision, which is at most as old as the probe interval.
type Handler struct{ monitors, optional []*Monitor }

// NewHandler returns a handler for the databases and the checks of these monitors. It is safe for concurrent use.
func NewHandler(monitor *Monitor, others ...*Monitor) *Handler {
	return &Handler{monitors: append([]*Monitor{monitor}, others...)}
}

// WithOptional returns a copy of h that also reports the databases of these monitors. If such a database is not usable or its setup
// steps have not run, /readyz, /startupz and /healthz report a warning and stay at 200. Its checks count as those of the others.
func (h *Handler) WithOptional(monitors ...*Monitor) *Handler {
	return &Handler{monitors: h.monitors, optional: append(slices.Clip(h.optional), monitors...)}
}

// checkStatus is a status of draft-inadarei-api-health-check, the worst last.
type checkStatus int

const (
	pass checkStatus = iota
	warn
	fail
)

func (s checkStatus) String() string { return [...]string{"pass", "warn", "fail"}[s] }

// item is the status of one component.
type item struct {
	name   string
	status checkStatus
	output string
	detail detail
}

// detail is an item in the format of the draft, section 4.
//
//nolint:tagliatelle // the draft defines the names
type detail struct {
	ComponentID   string    `json:"componentId,omitempty"`
	ComponentType string    `json:"componentType,omitempty"`
	ObservedValue int64     `json:"observedValue"`
	ObservedUnit  string    `json:"observedUnit,omitempty"`
	Status        string    `json:"status"`
	Time          time.Time `json:"time,omitzero"`
	Output        string    `json:"output,omitempty"`
}

// ServeHTTP serves GET and HEAD. It rejects other methods with 405.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "use GET or HEAD", http.StatusMethodNotAllowed)
		return
	}
	endpoint := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	var items []item
	switch endpoint {
	case "livez":
		items = h.checks(r.Context(), Liveness)
	case "readyz":
		items = append(h.databases(readinessItems), h.checks(r.Context(), Readiness)...)
	case "startupz":
		items = append(h.databases(startupItems), h.checks(r.Context(), Startup)...)
	case "healthz":
		items = h.databases(readinessItems)
		for _, kind := range []CheckKind{Startup, Readiness, Liveness} {
			items = append(items, h.checks(r.Context(), kind)...)
		}
	default:
		http.NotFound(w, r)
		return
	}
	verbose := r.URL.Query().Has("verbose")
	respond(w, endpoint, items, verbose, endpoint == "healthz")
}

// databases collects the items of every database. An optional one does not fail, unless the application is about to stop.
func (h *Handler) databases(itemsOf func(*Monitor) []item) []item {
	var items []item
	for _, monitor := range h.monitors {
		items = append(items, itemsOf(monitor)...)
	}
	for _, monitor := range h.optional {
		for _, it := range itemsOf(monitor) {
			if !monitor.Status().Draining {
				it.status = min(it.status, warn)
			}
			items = append(items, it)
		}
	}
	return items
}

// checks runs the checks of a kind of every monitor.
func (h *Handler) checks(ctx context.Context, kind CheckKind) []item {
	var items []item
	for _, monitor := range slices.Concat(h.monitors, h.optional) {
		for _, result := range monitor.Checks(ctx, kind) {
			e := item{name: result.Name, detail: detail{
				ComponentType: "component", ObservedValue: result.Took.Microseconds(), ObservedUnit: "us", Time: result.At,
			}}
			if result.Err != nil {
				e.status, e.output = fail, result.Err.Error()
				if result.Optional {
					e.status = warn
				}
			}
			items = append(items, e)
		}
	}
	return items
}

// readinessItems reports whether a database and its pool can serve requests.
func readinessItems(m *Monitor) []item {
	s := m.Status()
	name := "postgresql"
	if s.Database != "" {
		name = s.Database
	}
	connection := item{name: name + ":connection", output: string(s.State), detail: detail{
		ComponentID: m.db.Target(), ComponentType: "datastore", Time: s.LastProbe.At,
		ObservedValue: s.LastProbe.Latency.Microseconds(), ObservedUnit: "us",
	}}
	switch {
	case s.Draining:
		connection.status, connection.output = fail, "draining: the application is about to stop"
	case !s.Initialized:
		connection.status, connection.output = fail, "the setup steps have not run yet"
	case !m.IsHealthy():
		connection.status = fail
	case s.State == Degraded || s.Demoted:
		connection.status = warn
	}
	if len(s.Reasons) > 0 {
		connection.output += ": " + strings.Join(reasonStrings(s.Reasons), ", ")
	}
	if s.Cause != "" {
		connection.output += ": " + string(s.Cause)
	}
	if s.Err != nil {
		connection.output += ": " + s.Err.Error()
	}
	pool := item{name: name + ":pool", output: poolText(s.Pool), detail: detail{
		ComponentID: m.db.Target(), ComponentType: "component", Time: time.Now(),
		ObservedValue: int64(s.Pool.InUse), ObservedUnit: "connections in use",
	}}
	for _, reason := range s.Reasons {
		if reason == ReasonPoolExhausted || reason == ReasonPoolStalled {
			pool.status = warn
		}
	}
	return []item{connection, pool}
}

func poolText(pool pgfx.PoolStats) string {
	return fmt.Sprintf("%d of %d in use, %d idle, %d waiting", pool.InUse, pool.Max, pool.Idle, pool.Waiting)
}

// startupItems reports whether the setup steps of a database have run. A later outage changes nothing.
func startupItems(m *Monitor) []item {
	s := m.Status()
	name := "postgresql"
	if s.Database != "" {
		name = s.Database
	}
	e := item{name: name + ":setup", detail: detail{ComponentID: m.db.Target(), ComponentType: "datastore", Time: time.Now()}}
	if !s.Initialized {
		e.status, e.output = fail, "the setup steps have not run yet"
		if s.Err != nil {
			e.output += ": " + s.Err.Error()
		}
	}
	return []item{e}
}

// respond writes the worst status of all items.
func respond(w http.ResponseWriter, endpoint string, items []item, verbose, details bool) {
	worst := pass
	for _, it := range items {
		worst = max(worst, it.status)
	}
	code := http.StatusOK
	if worst == fail {
		code = http.StatusServiceUnavailable
	}
	w.Header().Set("Cache-Control", "no-store")
	if verbose {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(code)
		_, _ = w.Write(verboseText(endpoint, worst, items)) // an error means that the client is gone
		return
	}
	body := struct {
		Status string              `json:"status"`
		Checks map[string][]detail `json:"checks,omitempty"`
	}{Status: worst.String()}
	if details {
		body.Checks = make(map[string][]detail, len(items))
		for _, it := range items {
			it.detail.Status = it.status.String()
			if it.status != pass { // the draft omits the output then
				it.detail.Output = it.output
			}
			body.Checks[it.name] = append(body.Checks[it.name], it.detail)
		}
	}
	text, err := json.Marshal(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/health+json")
	w.WriteHeader(code)
	_, _ = w.Write(append(text, '\n')) // as above
}

func verboseText(endpoint string, worst checkStatus, items []item) []byte {
	var b strings.Builder
	for _, it := range items {
		b.WriteString([...]string{"[+] ", "[!] ", "[-] "}[it.status] + it.name)
		if it.output != "" {
			b.WriteString(": " + it.output)
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "%s: %s\n", endpoint, worst)
	return []byte(b.String())
}

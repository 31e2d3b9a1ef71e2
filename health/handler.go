package health

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// Handler answers the probes of orchestrators and load balancers. It is a plain http.Handler that looks at the last element
// of the path only, so that it can be mounted anywhere and under any router:
//
//   - /livez: 200 unless a liveness check fails. It never touches a database: an outage of the database must not restart
//     every instance of the application.
//   - /readyz: 200 while every database can be used, its setup has run, no readiness check fails and nobody is draining.
//   - /startupz: 200 once every database has been set up and each startup check has passed.
//   - /healthz: everything, as JSON after draft-inadarei-api-health-check; 503 when it says fail.
//
// Anything else is 404. A failing answer is 503. The first three answer with a status alone; ?verbose adds what was looked
// at, as text for people. Details name hosts, roles and databases, never passwords: serve them where only you can read them.
//
// No answer makes a look at a database: the monitor's verdict is used, which is a few microseconds old or up to the interval.
type Handler struct{ monitors []*Monitor }

// NewHandler makes a handler for the databases of these monitors and their checks. It is safe for concurrent use.
func NewHandler(monitor *Monitor, others ...*Monitor) *Handler {
	return &Handler{monitors: append([]*Monitor{monitor}, others...)}
}

// mark is a verdict in the draft's words, worst last.
type checkStatus int

const (
	pass checkStatus = iota
	warn
	fail
)

func (m checkStatus) String() string { return [...]string{"pass", "warn", "fail"}[m] }

// entry is one thing that was looked at.
type item struct {
	name   string
	status checkStatus
	output string
	detail detail
}

// detail is an entry in the form of the draft, section 4.
//
//nolint:tagliatelle // the names are the draft's
type detail struct {
	ComponentID   string    `json:"componentId,omitempty"`
	ComponentType string    `json:"componentType,omitempty"`
	ObservedValue int64     `json:"observedValue"`
	ObservedUnit  string    `json:"observedUnit,omitempty"`
	Status        string    `json:"status"`
	Time          time.Time `json:"time,omitzero"`
	Output        string    `json:"output,omitempty"`
}

// ServeHTTP answers GET and HEAD.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	probe := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	var entries []item
	switch probe {
	case "livez":
		entries = h.checks(r.Context(), Liveness)
	case "readyz":
		entries = append(h.forEach(readinessItems), h.checks(r.Context(), Readiness)...)
	case "startupz":
		entries = append(h.forEach(startupItems), h.checks(r.Context(), Startup)...)
	case "healthz":
		entries = h.forEach(readinessItems)
		for _, kind := range []CheckKind{Startup, Readiness, Liveness} {
			entries = append(entries, h.checks(r.Context(), kind)...)
		}
	default:
		http.NotFound(w, r)
		return
	}
	verbose := r.URL.Query().Has("verbose")
	respond(w, probe, entries, verbose, probe == "healthz")
}

// each asks something about every database.
func (h *Handler) forEach(ask func(*Monitor) []item) []item {
	var entries []item
	for _, monitor := range h.monitors {
		entries = append(entries, ask(monitor)...)
	}
	return entries
}

// checks runs the checks of a kind of every monitor.
func (h *Handler) checks(ctx context.Context, kind CheckKind) []item {
	return h.forEach(func(m *Monitor) []item {
		var entries []item
		for _, result := range m.Checks(ctx, kind) {
			e := item{name: result.Name, detail: detail{
				ComponentType: "component", ObservedValue: result.Took.Microseconds(), ObservedUnit: "us", Time: result.At,
			}}
			if result.Err != nil {
				e.status, e.output = fail, result.Err.Error()
				if result.Optional {
					e.status = warn
				}
			}
			entries = append(entries, e)
		}
		return entries
	})
}

// ready says whether a database and its pool can serve.
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
		connection.status, connection.output = fail, "draining: the application is going away"
	case !s.Initialized:
		connection.status, connection.output = fail, "the setup has not run yet"
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
		if reason == ReasonPoolExhausted || reason == ReasonPoolStuck {
			pool.status = warn
		}
	}
	return []item{connection, pool}
}

func poolText(pool pgfx.PoolStats) string {
	return fmt.Sprintf("%d of %d in use, %d idle, %d waiting", pool.InUse, pool.Max, pool.Idle, pool.Waiting)
}

// started says whether a database has been set up. That it is away afterwards changes nothing.
func startupItems(m *Monitor) []item {
	s := m.Status()
	name := "postgresql"
	if s.Database != "" {
		name = s.Database
	}
	e := item{name: name + ":setup", detail: detail{ComponentID: m.db.Target(), ComponentType: "datastore", Time: time.Now()}}
	if !s.Initialized {
		e.status, e.output = fail, "the setup has not run yet"
		if s.Err != nil {
			e.output += ": " + s.Err.Error()
		}
	}
	return []item{e}
}

// respond writes the verdict on all entries.
func respond(w http.ResponseWriter, probe string, entries []item, verbose, details bool) {
	worst := pass
	for _, e := range entries {
		worst = max(worst, e.status)
	}
	code := http.StatusOK
	if worst == fail {
		code = http.StatusServiceUnavailable
	}
	w.Header().Set("Cache-Control", "no-store")
	if verbose {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(code)
		_, _ = w.Write(verboseText(probe, worst, entries)) // nobody reads an error of a probe that has gone away
		return
	}
	body := struct {
		Status string              `json:"status"`
		Checks map[string][]detail `json:"checks,omitempty"`
	}{Status: worst.String()}
	if details {
		body.Checks = make(map[string][]detail, len(entries))
		for _, e := range entries {
			e.detail.Status = e.status.String()
			if e.status != pass { // the draft wants no output then
				e.detail.Output = e.output
			}
			body.Checks[e.name] = append(body.Checks[e.name], e.detail)
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

func verboseText(probe string, worst checkStatus, entries []item) []byte {
	var b strings.Builder
	for _, e := range entries {
		b.WriteString([...]string{"[+] ", "[!] ", "[-] "}[e.status] + e.name)
		if e.output != "" {
			b.WriteString(": " + e.output)
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "%s: %s\n", probe, worst)
	return []byte(b.String())
}

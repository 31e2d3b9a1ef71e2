package chaos_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
)

// bankReport adds up the results of the scenes of one run.
type bankReport struct {
	seed    uint64
	took    time.Duration
	scenes  int
	strikes map[string]int
	// recoveries are the times from the end of a fault to the first acknowledged transfer, by fault and kind of application.
	recoveries map[string]map[string][]time.Duration
	tallies    map[string]*tally           // by kind
	variants   map[string]*tally           // of this library
	isolation  map[string]*isolationResult // by level
	// problems are wrong states: of the ledger by kind, and what processes and servers have left behind.
	ledger   map[string][]string
	problems []string
}

func newBankReport(seed uint64) *bankReport {
	return &bankReport{
		seed: seed, strikes: make(map[string]int), recoveries: make(map[string]map[string][]time.Duration),
		tallies: map[string]*tally{"rdsfx": {}, "pgx": {}}, variants: make(map[string]*tally), ledger: make(map[string][]string),
		isolation: map[string]*isolationResult{"rc": {}, "rr": {}, "sr": {}},
	}
}

// prefixes are those of the tables.
var prefixes = map[string]string{"rdsfx": "", "pgx": "plain_"}

// check stops the applications, compares their records with the database and adds the results to the report.
func (s *scene) check(report *bankReport) {
	s.Helper()
	s.stop()
	report.scenes++
	report.problems = append(report.problems, s.leftovers()...)
	report.problems = append(report.problems, s.secrets()...)
	oldPrimary := s.cluster.Primary()
	if s.failover == failoverLossy {
		oldPrimary.Restart()
	}
	for kind, prefix := range prefixes {
		stored, old := readLedger(s, s.writer, prefix), ledger{}
		if s.failover == failoverLossy {
			old = readLedger(s, oldPrimary, prefix)
		}
		report.ledger[kind] = append(report.ledger[kind], stored.violations()...)
		var acks []time.Time
		for _, p := range s.ended {
			if p.config.Kind != kind {
				continue
			}
			records := readRecords[record](s, p.config.records())
			report.tallies[kind].add(records, stored.ids(), old.ids())
			if kind == "rdsfx" {
				report.addVariants(records, stored.ids(), old.ids())
			}
			acks = append(acks, acknowledgements(records)...)
			report.addLeftovers(p, records)
		}
		report.addRecoveries(kind, s.strikes, acks)
	}
	report.addHistories(s, oldPrimary)
	for _, strike := range s.strikes {
		report.strikes[strike.fault]++
	}
}

func readLedger(tb testing.TB, server *faults.Server, prefix string) ledger {
	tb.Helper()
	return ledger{
		accounts:  queryRows(tb, server.URL(), pgx.RowToStructByName[account], "select id, balance, revision from "+prefix+"accounts"),
		transfers: queryRows(tb, server.URL(), pgx.RowToStructByName[transfer], "select * from "+prefix+"transfers"),
	}
}

// leftovers returns what the applications on this library have left on the writer after their end.
func (s *scene) leftovers() []string {
	s.Helper()
	const query = `select 'connection of ' || application_name || ', ' || state || ' for ' || clock_timestamp() - state_change || ': ' || query
			from pg_stat_activity where state <> 'idle' and backend_type = 'client backend' and application_name like 'rdsfx-%'
		union all select 'prepared transaction ' || gid from pg_prepared_xacts
		union all select 'lock on ' || relation::regclass || ' by ' || l.pid from pg_locks l join pg_stat_activity a using (pid)
			where a.application_name like 'rdsfx-%'`
	var found []string
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		found = queryRows(s, s.writer.URL(), pgx.RowTo[string], query)
		if len(found) == 0 || time.Now().After(deadline) {
			return found
		}
	}
}

// secrets returns the files of the applications that contain a password.
func (s *scene) secrets() []string {
	s.Helper()
	var found []string
	files, err := filepath.Glob(s.file("rdsfx-*"))
	require.NoError(s, err)
	require.NotEmpty(s, files)
	for _, file := range files {
		content, err := os.ReadFile(file)
		require.NoError(s, err)
		for _, password := range s.passwords {
			if bytes.Contains(content, []byte(password)) {
				found = append(found, "a password is in "+filepath.Base(file))
			}
		}
	}
	return found
}

func acknowledgements(records []record) []time.Time {
	var acks []time.Time
	for _, rec := range records {
		if rec.Outcome == acknowledged && rec.ID != "" {
			acks = append(acks, rec.Ended)
		}
	}
	return acks
}

func (r *bankReport) addVariants(records []record, stored, old map[string]int) {
	byVariant := make(map[string][]record)
	for _, rec := range records {
		if rec.ID != "" {
			byVariant[rec.Variant] = append(byVariant[rec.Variant], rec)
		}
	}
	for variant, own := range byVariant {
		if r.variants[variant] == nil {
			r.variants[variant] = &tally{}
		}
		r.variants[variant].add(own, stored, old)
	}
}

// addLeftovers adds what a process on this library has left behind. A killed process has written no such record.
func (r *bankReport) addLeftovers(p *process, records []record) {
	if p.config.Kind != "rdsfx" || p.killed {
		return
	}
	name := p.config.Name
	if len(records) == 0 || records[len(records)-1].Leftovers == nil {
		r.problems = append(r.problems, name+" has not ended orderly")
		return
	}
	left := records[len(records)-1].Leftovers
	if left.Close != "" {
		r.problems = append(r.problems, name+": "+left.Close)
	}
	if left.Goroutines != "" {
		r.problems = append(r.problems, name+": goroutines: "+left.Goroutines)
	}
	if len(left.Files) > 0 {
		r.problems = append(r.problems, name+": open files: "+strings.Join(left.Files, ", "))
	}
}

func (r *bankReport) addRecoveries(kind string, strikes []strike, acks []time.Time) {
	slices.SortFunc(acks, time.Time.Compare)
	for _, strike := range strikes {
		i, _ := slices.BinarySearchFunc(acks, strike.ended, time.Time.Compare)
		if i == len(acks) {
			continue // shown as fewer recoveries than strikes
		}
		if r.recoveries[strike.fault] == nil {
			r.recoveries[strike.fault] = make(map[string][]time.Duration)
		}
		r.recoveries[strike.fault][kind] = append(r.recoveries[strike.fault][kind], acks[i].Sub(strike.ended))
	}
}

// failures returns everything that must not be.
func (r *bankReport) failures() []string {
	failures := append(slices.Clone(r.problems), r.ledger["rdsfx"]...)
	for _, level := range r.isolation {
		failures = append(failures, level.anomalies...)
	}
	return append(failures, r.tallies["rdsfx"].Examples...)
}

// String returns the report as Markdown.
func (r *bankReport) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Seed %d, %s, %d scenes.\n\n", r.seed, r.took.Round(time.Second), r.scenes)
	b.WriteString("| applications | acknowledged | refused by the gate | failed | unknown | lost by the failover | acknowledged, not stored | failed, but stored | twice | wrong sums | ledger |\n" +
		"|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, kind := range []string{"rdsfx", "pgx"} {
		t := r.tallies[kind]
		books := "agrees"
		if len(r.ledger[kind]) > 0 {
			books = fmt.Sprintf("%d errors", len(r.ledger[kind]))
		}
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %d | %d | %d | %d | %d | %s |\n", kind, t.Acknowledged, t.Refused, t.Failed, t.Unknown,
			t.LostInFailover, t.AcknowledgedNotStored, t.FailedButStored, t.Twice, t.WrongSums, books)
	}
	b.WriteString("\n| transfers of rdsfx | acknowledged | refused | failed | unknown | wrong |\n|---|---|---|---|---|---|\n")
	for _, variant := range slices.Sorted(maps.Keys(r.variants)) {
		t := r.variants[variant]
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %d |\n", variant, t.Acknowledged, t.Refused, t.Failed, t.Unknown, t.errors())
	}
	b.WriteString("\n| histories of lists | attempts | anomalies |\n|---|---|---|\n")
	for _, level := range []struct{ key, name string }{{"rc", "read committed"}, {"rr", "repeatable read"}, {"sr", "serializable"}} {
		fmt.Fprintf(&b, "| %s | %d | %d |\n", level.name, r.isolation[level.key].txns, len(r.isolation[level.key].anomalies))
	}
	b.WriteString("\n| fault | times | first success after it: rdsfx, median · longest | pgx, median · longest |\n|---|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(r.strikes)) {
		fmt.Fprintf(&b, "| %s | %d | %s | %s |\n", name, r.strikes[name], recoveryTimes(r.recoveries[name]["rdsfx"], r.strikes[name]),
			recoveryTimes(r.recoveries[name]["pgx"], r.strikes[name]))
	}
	return b.String() + bullets(r.failures())
}

func recoveryTimes(times []time.Duration, want int) string {
	if len(times) == 0 {
		return "never"
	}
	slices.Sort(times)
	shown := fmt.Sprintf("%s · %s", rounded(percentile(times, 0.5)), rounded(times[len(times)-1]))
	if len(times) < want {
		shown += fmt.Sprintf(", %d × never", want-len(times))
	}
	return shown
}

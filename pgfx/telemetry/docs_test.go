package telemetry_test

import (
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/txn"
)

// page returns docs/observability.md.
func page(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/observability.md")
	require.NoError(t, err)
	return string(text)
}

// documentedMetrics returns the rows of the table of metrics by name.
func documentedMetrics(t *testing.T) map[string]string {
	t.Helper()
	_, table, _ := strings.Cut(page(t), "<!-- metrics -->")
	table, _, found := strings.Cut(table, "<!-- metrics end -->")
	require.True(t, found)
	rows := make(map[string]string)
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_.]+)` \\| (.*)$").FindAllStringSubmatch(table, -1) {
		rows[row[1]] = row[2]
	}
	return rows
}

// emittedMetrics returns all metrics of a database that was used in every way.
func emittedMetrics(t *testing.T) map[string]metricdata.Metrics {
	t.Helper()
	f := newFixture(t, pgfx.Config{})
	useAll(t, f)
	return f.collect(t)
}

func TestDocs_ListEveryMetricWithItsTypeAndUnit(t *testing.T) {
	t.Parallel()
	documented, emitted := documentedMetrics(t), emittedMetrics(t)
	delete(documented, "rdsfx.server.replication.lag") // only of a standby
	assert.ElementsMatch(t, slices.Collect(maps.Keys(documented)), slices.Collect(maps.Keys(emitted)))
	for name, m := range emitted {
		kind := "gauge"
		switch data := m.Data.(type) {
		case metricdata.Histogram[float64], metricdata.Histogram[int64]:
			kind = "histogram"
		case metricdata.Sum[int64]:
			if data.IsMonotonic {
				kind = "counter"
			}
		case metricdata.Sum[float64]:
			kind = "counter"
		}
		assert.True(t, strings.HasPrefix(documented[name], kind+", "+m.Unit+" |"), "%s: %s, %s", name, kind, m.Unit)
	}
}

func TestDocs_MapEveryFieldOfTheStatistics(t *testing.T) {
	t.Parallel()
	text := page(t)
	for typ, excluded := range map[reflect.Type][]string{
		// Durations are the histograms that are recorded at the event.
		reflect.TypeFor[pgfx.Stats]():          {"Pool", "Statements", "Wait", "Use", "Connect", "Retries"},
		reflect.TypeFor[pgfx.PoolStats]():      {"Open"}, // the sum of others
		reflect.TypeFor[pgfx.StatementStats](): {"DurationStats", "Errors"},
		reflect.TypeFor[pgfx.RetryStats]():     nil,
		reflect.TypeFor[txn.Stats]():           {"Duration", "Begun"},
		reflect.TypeFor[health.Status](): {
			"Database", "Since", "Cause", "Err", "Monitored", "Draining", "LastGood", "Pool", "Resets", "LastReset", "DroppedTransitions", "History",
			"LastProbe", "Server",
		},
		reflect.TypeFor[health.Server](): {"ReadOnly", "SystemIdentifier", "Timeline", "StartedAt", "LagKnown"},
	} {
		for field := range typ.Fields() {
			if slices.Contains(excluded, field.Name) {
				continue
			}
			mapped := strings.Contains(text, "."+field.Name+"`") || strings.Contains(text, "`"+field.Name+"`")
			assert.True(t, mapped, "%v.%s: map the field to a metric, or state that it has none", typ, field.Name)
		}
	}
}

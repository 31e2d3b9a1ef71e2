package telemetry_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/telemetry"
)

// The metric that only a standby has.
const lagMetric = "rdsfx_server_replication_lag_seconds"

// servedNames returns the names of metrics and labels that Prometheus scrapes from a database that was used in every way.
func servedNames(t *testing.T) (metrics, labels map[string]bool) {
	t.Helper()
	registry := prometheus.NewRegistry()
	exporter, err := otelprom.New(otelprom.WithRegisterer(registry))
	require.NoError(t, err)
	f := newFixture(t, pgfx.Config{}, telemetry.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter))))
	useAll(t, f)
	metrics, labels = map[string]bool{lagMetric: true}, map[string]bool{"instance": true} // Prometheus adds the instance
	for line := range strings.SplitSeq(scrape(t, promhttp.HandlerFor(registry, promhttp.HandlerOpts{})), "\n") {
		name, rest, found := strings.Cut(line, "{")
		if !found || strings.HasPrefix(line, "#") {
			continue
		}
		metrics[name] = true
		for _, label := range regexp.MustCompile(`(\w+)="`).FindAllStringSubmatch(rest, -1) {
			labels[label[1]] = true
		}
	}
	return metrics, labels
}

// assertServed checks the names of metrics and labels in an expression.
func assertServed(t *testing.T, expr string, metrics, labels map[string]bool) {
	t.Helper()
	for _, name := range regexp.MustCompile(`\b(?:db|rdsfx)_\w+`).FindAllString(expr, -1) {
		assert.True(t, metrics[name] || labels[name], "%s: telemetry has no metric and no label %s", expr, name)
	}
	for _, label := range regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)\s*"`).FindAllStringSubmatch(expr, -1) {
		assert.True(t, labels[label[1]], "%s: no label %s", expr, label[1])
	}
}

// dashboard is the part of Grafana's dashboard model that is checked (Grafana manual, "Dashboard JSON model").
type dashboard struct {
	UID           string `json:"uid"`
	Title         string `json:"title"`
	SchemaVersion int    `json:"schemaVersion"` //nolint:tagliatelle // Grafana's
	Templating    struct {
		List []struct {
			Name string `json:"name"`
		} `json:"list"`
	} `json:"templating"`
	Panels []struct {
		ID      int    `json:"id"`
		Type    string `json:"type"`
		Title   string `json:"title"`
		GridPos struct {
			H int `json:"h"`
			W int `json:"w"`
			X int `json:"x"`
			Y int `json:"y"`
		} `json:"gridPos"` //nolint:tagliatelle // Grafana's
		Datasource struct {
			UID string `json:"uid"`
		} `json:"datasource"`
		Targets []struct {
			RefID string `json:"refId"` //nolint:tagliatelle // Grafana's
			Expr  string `json:"expr"`
		} `json:"targets"`
	} `json:"panels"`
}

func TestDashboard_FitsGrafanasModelAndTheMetrics(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("grafana/dashboard.json")
	require.NoError(t, err)
	var d dashboard
	require.NoError(t, json.Unmarshal(text, &d))
	assert.NotEmpty(t, d.UID)
	assert.GreaterOrEqual(t, d.SchemaVersion, 39)
	variables := []string{"__rate_interval"}
	for _, variable := range d.Templating.List {
		variables = append(variables, variable.Name)
	}
	metrics, labels := servedNames(t)
	used := map[string]bool{}
	ids, cells := map[int]bool{}, map[[2]int]string{}
	for _, panel := range d.Panels {
		assert.False(t, ids[panel.ID], "id %d twice", panel.ID)
		ids[panel.ID] = true
		require.LessOrEqual(t, panel.GridPos.X+panel.GridPos.W, 24, panel.Title)
		for x := range panel.GridPos.W {
			for y := range panel.GridPos.H {
				cell := [2]int{panel.GridPos.X + x, panel.GridPos.Y + y}
				assert.Empty(t, cells[cell], "%s overlaps", panel.Title)
				cells[cell] = panel.Title
			}
		}
		if panel.Type == "row" {
			continue
		}
		assert.Contains(t, []string{"timeseries", "table", "state-timeline"}, panel.Type)
		assert.Equal(t, "${datasource}", panel.Datasource.UID)
		require.NotEmpty(t, panel.Targets, panel.Title)
		for _, target := range panel.Targets {
			assert.NotEmpty(t, target.RefID)
			assertServed(t, target.Expr, metrics, labels)
			assert.Equal(t, strings.Count(target.Expr, "("), strings.Count(target.Expr, ")"), target.Expr)
			for _, variable := range regexp.MustCompile(`\$(\w+)`).FindAllStringSubmatch(target.Expr, -1) {
				assert.Contains(t, variables, variable[1], target.Expr)
			}
			for _, name := range regexp.MustCompile(`\b(?:db|rdsfx)_\w+`).FindAllString(target.Expr, -1) {
				used[name] = true
			}
		}
	}
	for _, name := range []string{"rdsfx_health_state", "db_client_operation_duration_seconds_bucket", "rdsfx_transactions_total"} {
		assert.True(t, used[name], name)
	}
}

func TestRules_UseMetricsThatExist(t *testing.T) {
	t.Parallel()
	metrics, labels := servedNames(t)
	for _, file := range []string{"prometheus/rules.yml", "prometheus/rules_test.yml"} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		expressions := regexp.MustCompile(`(?m)^\s*(?:expr|- series|- expr): (?:>-\n)?(.*(?:\n {10,}[^ -].*)*)$`).FindAllStringSubmatch(string(text), -1)
		require.Greater(t, len(expressions), 5, file)
		for _, expr := range expressions {
			recorded := regexp.MustCompile(`pool:\w+`).ReplaceAllString(expr[1], "")
			assertServed(t, recorded, metrics, labels)
		}
	}
}

func TestRules_PassPromtool(t *testing.T) {
	t.Parallel()
	promtool := os.Getenv("RDSFX_PROMTOOL")
	if promtool == "" {
		t.Skip("set RDSFX_PROMTOOL=$(.ci/promtool), or run make rules")
	}
	for _, args := range [][]string{{"check", "rules", "rules.yml"}, {"test", "rules", "rules_test.yml"}} {
		command := exec.Command(promtool, args...) //nolint:noctx // it ends by itself
		command.Dir = "prometheus"
		output, err := command.CombinedOutput()
		require.NoError(t, err, string(output))
	}
}

func TestRules_EachAlertIsDocumentedAndTested(t *testing.T) {
	t.Parallel()
	rules, err := os.ReadFile("prometheus/rules.yml")
	require.NoError(t, err)
	documented := page(t)
	tests, err := os.ReadFile("prometheus/rules_test.yml")
	require.NoError(t, err)
	var alerts []string
	for _, alert := range regexp.MustCompile(`(?m)- alert: (\w+)`).FindAllStringSubmatch(string(rules), -1) {
		alerts = append(alerts, alert[1])
		assert.Contains(t, documented, "`"+alert[1]+"`", "describe the alert in docs/observability.md")
		assert.Contains(t, string(tests), "alertname: "+alert[1]+"\n        exp_alerts:", "test when it fires")
		assert.Contains(t, string(tests), "alertname: "+alert[1]+"}", "test when it does not")
	}
	assert.Len(t, slices.Compact(slices.Sorted(slices.Values(alerts))), len(alerts))
}

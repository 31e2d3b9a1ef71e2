package ormtest_test

import (
	"os"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/statetimeline"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// readDashboard returns the text of the dashboard.
func readDashboard(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../pgfx/telemetry/grafana/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// checkDashboard compares a dashboard with Grafana's own model, from which the Grafana Foundation SDK is generated. It returns an error
// that names each unknown field, each missing one and each wrong type, also in the options of panels and in queries. A test of
// pgfx/telemetry checks that there are no other types of panels.
func checkDashboard(text string) error {
	models := cog.NewRuntime() // the same value each time
	models.RegisterPanelcfgVariant(timeseries.VariantConfig())
	models.RegisterPanelcfgVariant(table.VariantConfig())
	models.RegisterPanelcfgVariant(statetimeline.VariantConfig())
	models.RegisterDataqueryVariant(prometheus.VariantConfig())
	var d dashboard.Dashboard                                                        //nolint:staticcheck // the classic model
	if err := d.UnmarshalJSONStrict([]byte(text)); err != nil && err.Error() != "" { // it is not nil either way
		return err
	}
	return nil
}

func TestDashboard_FitsGrafanasModel(t *testing.T) {
	t.Parallel()
	if err := checkDashboard(readDashboard(t)); err != nil {
		t.Error(err)
	}
}

func TestDashboard_FindsMistakes(t *testing.T) {
	t.Parallel()
	text := readDashboard(t)
	for replaced, mistake := range map[string]struct{ by, found string }{
		`"showValue"`:       {`"showvalue"`, "panels[1].options.showValue: required field is missing"},
		`"expr"`:            {`"expression"`, "panels[2].targets[0].expr: required field is missing"},
		`"h": 8`:            {`"h": "8"`, "panels[2].gridPos.h"},
		`"graphTooltip": 1`: {`"graphTooltip": "1"`, "graphTooltip: json: cannot unmarshal string"},
	} {
		changed := strings.ReplaceAll(text, replaced, mistake.by)
		if changed == text {
			t.Errorf("the dashboard has no %s", replaced)
		}
		if err := checkDashboard(changed); err == nil || !strings.Contains(err.Error(), mistake.found) {
			t.Errorf("%s: %v, want %s", mistake.by, err, mistake.found)
		}
	}
}

package keeper_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/keeper"
)

func TestRun_ReportsAMissingSpec(t *testing.T) {
	t.Parallel()
	for _, commands := range []string{"", "{}", "nonsense"} {
		var events bytes.Buffer
		assert.Equal(t, 1, keeper.Run(strings.NewReader(commands), &events, nil))
		assert.Contains(t, events.String(), `{"kind":"hello"}`)
		assert.Contains(t, events.String(), `"error":"the keeper received no specification`)
	}
}

func TestRun_ReportsAPanic(t *testing.T) {
	t.Parallel()
	require.ErrorContains(t, keeper.PanicError(), "the keeper panicked: on purpose")
}

func TestKeeperEnviron_DropsPostgresVariables(t *testing.T) {
	t.Parallel()
	got := keeper.KeeperEnviron([]string{"A=1", "PGHOST=x", "PGSERVICE=y", "GORACE=halt_on_error=1"})
	assert.ElementsMatch(t, []string{"A=1", "GORACE=halt_on_error=1 atexit_sleep_ms=0", "RDSFX_EMBEDDED_KEEPER=2"}, got)
	assert.Contains(t, keeper.KeeperEnviron(nil), "GORACE=atexit_sleep_ms=0")
}

func TestSpec_NeverPrintsThePassword(t *testing.T) {
	t.Parallel()
	spec := keeper.Spec{Password: "hunter2"}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		assert.NotContains(t, fmt.Sprintf(verb, spec), "hunter2", verb)
		assert.NotContains(t, fmt.Sprintf(verb, spec), "68756e74657232", verb)
		assert.NotContains(t, fmt.Sprintf(verb, &keeper.State{Spec: spec}), "hunter2", verb)
	}
}

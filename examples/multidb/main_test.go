package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx/examples/internal/guiderun"
	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestMain(m *testing.M) { fxtest.Main(m) }

// TestReadme_RunsAsWritten follows README.md.
func TestReadme_RunsAsWritten(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it builds a program")
	}
	guiderun.Follow(t, "README.md", guiderun.NewShell(t, "../..", t.TempDir())) // it saves the blocks of Go in a temporary directory
}

// docs: test
func TestShop_SurvivesTheOutageOfARegion(t *testing.T) {
	t.Parallel()
	proxy := faults.NewProxy(t, fxtest.URL(t))
	var shop *Shop
	fxtest.New(t, fxtest.ForDatabase("eu", fxtest.At(proxy.URL())), fxtest.Fx(databases, fx.Populate(&shop)))
	require.NoError(t, shop.products.Create(t.Context(), &Product{SKU: "kb", Name: "Keyboard", Cents: 8900}))
	_, err := shop.PlaceOrders(t.Context(), "eu", 1, "kb")
	require.NoError(t, err)

	proxy.RefuseNew()
	proxy.ResetConnections()
	require.Eventually(t, func() bool { return !shop.regions["eu"].monitor.IsHealthy() }, 30*time.Second, time.Millisecond)
	_, err = shop.PlaceOrders(t.Context(), "eu", 1, "kb")
	require.True(t, pgfx.IsUnavailable(err), err)
	_, err = shop.PlaceOrders(t.Context(), "us", 1, "kb")
	require.NoError(t, err)
	revenue, err := shop.Revenue(t.Context())
	require.ErrorContains(t, err, "eu: ")
	assert.Equal(t, map[string]int64{"us": 8900}, revenue)

	proxy.Heal()
	require.NoError(t, shop.regions["eu"].monitor.AwaitUp(t.Context()))
	revenue, err = shop.Revenue(t.Context())
	require.NoError(t, err)
	assert.Equal(t, map[string]int64{"eu": 8900, "us": 8900}, revenue)
}

// docs: end

func TestShop_RejectsAnUnknownRegion(t *testing.T) {
	t.Parallel()
	_, err := NewShop(stores{}).PlaceOrders(t.Context(), "moon", 1)
	require.EqualError(t, err, `unknown region "moon"`)
}

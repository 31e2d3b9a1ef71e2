package aurora_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx"
	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/aurora"
)

// The code between "docs" comments is shown in docs/rds-aurora.md.

// docs: two pools
type reports struct{ writer, readers *pgxpool.Pool }

type reportsParams struct {
	fx.In

	Writer  *pgxpool.Pool
	Readers *pgxpool.Pool `name:"readers"`
}

func newReports(p reportsParams) *reports { return &reports{writer: p.Writer, readers: p.Readers} }

var module = fx.Options(
	rdsfx.Module,               // DATABASE_URL: the cluster endpoint
	rdsfx.ModuleFor("readers"), // READERS_DATABASE_URL: the reader endpoint
	fx.Provide(newReports),
)

// docs: end

func TestModule_TwoPoolsOfOneCluster(t *testing.T) {
	t.Parallel()
	cluster := faults.NewAurora(t, faults.AuroraConfig{})
	var r *reports
	app := fx.New(fx.NopLogger, module, fx.Populate(&r),
		fx.Supply(pgfx.Config{URL: cluster.URL()}),
		fx.Supply(fx.Annotate(pgfx.Config{URL: cluster.ReaderURL()}, fx.ResultTags(`name:"readers"`))),
		pgfx.ProvideOptions(cluster.Option(), cluster.Option().For("readers")),
	)
	require.NoError(t, app.Start(t.Context()))
	t.Cleanup(func() { assert.NoError(t, app.Stop(context.WithoutCancel(t.Context()))) })
	inRecovery := func(pool *pgxpool.Pool) (standby bool) {
		require.NoError(t, pool.QueryRow(t.Context(), "select pg_is_in_recovery()").Scan(&standby))
		return standby
	}
	assert.False(t, inRecovery(r.writer))
	assert.True(t, inRecovery(r.readers))
}

// docs: failover test
func TestOrders_SurviveFailover(t *testing.T) {
	t.Parallel()
	cluster := faults.NewAurora(t, faults.AuroraConfig{Instances: 2})
	cluster.SetDNSLag(20 * time.Second)
	db, err := rdsfx.Open(pgfx.Config{URL: cluster.URL()}, rdsfx.WithPool(cluster.Option()))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close(context.WithoutCancel(t.Context()))) })
	require.NoError(t, db.Start(t.Context()))

	cluster.Failover("app-2")
	require.Eventually(t, func() bool {
		_, err := db.DB.Pool().Exec(t.Context(), "create table if not exists orders ()")
		return err == nil
	}, 10*time.Second, 10*time.Millisecond)
}

// docs: end

func ExampleTopology() {
	// docs: private names
	cfg := pgfx.Config{URL: "postgres://app@orders.db.internal/orders"}
	topology := aurora.Topology(aurora.Config{
		WriterHosts:     []string{"orders.db.internal"},
		ReaderHosts:     []string{"orders-ro.db.internal"},
		InstancePattern: "?.abc123.eu-west-1.rds.amazonaws.com",
	})
	db, err := rdsfx.Open(cfg, rdsfx.WithPool(topology))
	// docs: end
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = db.Close(context.Background()) }()
	fmt.Println(db.DB.Target())
	// Output: app@orders.db.internal:5432/orders
}

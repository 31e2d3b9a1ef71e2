package migrate_test

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx"
	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
	"github.com/rdsfx-go/rdsfx/pgfx/migrate"
)

// docs: module
func NewApp(yours ...fx.Option) *fx.App {
	return fx.New(
		fx.Options(yours...),
		rdsfx.Module,
		migrate.Module(migrations, migrate.WithDir("testdata/migrations")),
		fx.StartTimeout(2*time.Minute), // time for migrations
	)
}

//go:embed testdata/migrations/*.sql
var migrations embed.FS

// docs: end

// docs: locks
func TestMigrations_DoNotBlock(t *testing.T) {
	t.Parallel()
	files, err := fs.Sub(migrations, "testdata/migrations")
	require.NoError(t, err)
	fxtest.MigrationLocks(t, files, nil).AssertGolden(t, "testdata/locks.golden")
}

// docs: end

func ExampleModule() {
	var db *pgfx.DB
	app := NewApp(fx.NopLogger, embedded.Module, fx.Populate(&db))
	ctx, cancel := context.WithTimeout(context.Background(), app.StartTimeout())
	defer cancel()
	if err := app.Start(ctx); err != nil {
		fmt.Println(err)
		return
	}
	var email string
	err := db.Pool().QueryRow(ctx, "insert into users (email) values ('ada@example.com') returning email").Scan(&email)
	fmt.Println(email, err)
	fmt.Println(app.Stop(ctx))
	// Output:
	// ada@example.com <nil>
	// <nil>
}

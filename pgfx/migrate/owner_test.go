package migrate_test

import (
	"context"
	"net/url"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/migrate"
)

// twoRoles creates a database whose owner may change the schema, and an application's user that may only read and write rows. It
// returns the URL of the user, and the Config of the owner.
func twoRoles(t *testing.T) (app string, owner pgfx.Config) {
	t.Helper()
	address := fxtest.URL(t)
	admin := started(t, pgfx.Config{URL: address})
	suffix := value[string](t, admin, "select left(md5(current_database()), 12)")
	ownerName, appName := "owner_"+suffix, "app_"+suffix
	exec(t, admin, `create role `+ownerName+` login password 'owner-secret'; create role `+appName+` login password 'app-secret'`)
	exec(t, admin, `revoke all on schema public from public; grant usage, create on schema public to `+ownerName+`; grant usage on schema public to `+appName)
	exec(t, admin, `alter default privileges for role `+ownerName+` in schema public grant select, insert, update, delete on tables to `+appName)
	t.Cleanup(func() {
		for _, role := range []string{appName, ownerName} {
			_, err := admin.Pool().Exec(context.WithoutCancel(t.Context()), `drop owned by `+role+` cascade; drop role `+role)
			require.NoError(t, err)
		}
	})
	u, err := url.Parse(address)
	require.NoError(t, err)
	u.User = url.UserPassword(appName, "app-secret")
	return u.String(), pgfx.Config{Username: ownerName, Password: "owner-secret"}
}

func TestRun_AsOwnerForApplicationWithoutRights(t *testing.T) {
	t.Parallel()
	app, owner := twoRoles(t)
	db := started(t, pgfx.Config{URL: app})
	require.ErrorContains(t, migrate.Run(t.Context(), db, usersAndJobs), "permission denied for schema public")
	require.NoError(t, migrate.Run(t.Context(), db, usersAndJobs, migrate.WithOwner(owner)))
	assert.Equal(t, owner.Username, value[string](t, db, "select tableowner from pg_tables where tablename = 'users'"))
	exec(t, db, "insert into users values (1, 'ada@example.com'); update users set email = 'x'; delete from users")
	_, err := db.Pool().Exec(t.Context(), "drop table users")
	require.ErrorContains(t, err, "must be owner of table users")
	require.NoError(t, migrate.Run(t.Context(), db, usersAndJobs, migrate.WithMode(migrate.ModeCheck)), "the application's user may check")
}

func TestRun_OwnerFromEnvironment(t *testing.T) {
	app, owner := twoRoles(t)
	config, err := pgx.ParseConfig(app)
	require.NoError(t, err)
	t.Setenv("DATABASE_HOST", config.Host)
	t.Setenv("DATABASE_PORT", "")
	t.Setenv("DATABASE_NAME", config.Database)
	t.Setenv("DATABASE_USERNAME", config.User)
	t.Setenv("DATABASE_PASSWORD", config.Password)
	t.Setenv("DATABASE_MIGRATE_USERNAME", owner.Username)
	file := t.TempDir() + "/password"
	require.NoError(t, os.WriteFile(file, []byte(owner.Password+"\n"), 0o600))
	t.Setenv("DATABASE_MIGRATE_PASSWORD_FILE", file)
	db := started(t, pgfx.Config{Port: int(config.Port)})
	require.NoError(t, migrate.Run(t.Context(), db, usersAndJobs))
	assert.Equal(t, config.User, value[string](t, db, "select current_user"))
	assert.Equal(t, owner.Username, value[string](t, db, "select tableowner from pg_tables where tablename = 'users'"))
}

func TestRun_AtAddressOfOwner(t *testing.T) {
	t.Parallel()
	db, _ := setup(t)
	address := fxtest.URL(t)
	require.NoError(t, migrate.Run(t.Context(), db, usersAndJobs, migrate.WithOwner(pgfx.Config{URL: address})))
	assert.False(t, value[bool](t, db, "select to_regclass('users') is not null"), "the owner's address is another database")
	err := migrate.Run(t.Context(), db, usersAndJobs, migrate.WithOwner(pgfx.Config{Host: "postgres://x"}))
	require.ErrorContains(t, err, "migrate: owner: ")
}

// TestRun_OwnerAvoidsPooler migrates over a direct address, while the application uses PgBouncer.
func TestRun_OwnerAvoidsPooler(t *testing.T) {
	t.Parallel()
	pooled, direct := pgBouncer(t)
	db := started(t, pooled)
	require.NoError(t, migrate.Run(t.Context(), db, usersAndJobs, migrate.WithOwner(pgfx.Config{URL: direct})))
	assert.False(t, value[bool](t, db, "select to_regclass('goose_db_version_lock') is not null"), "the advisory lock needs no table")
	assert.Equal(t, 2, value[int](t, db, "select count(*) from runs"))
}

package migrate_test

import (
	"context"
	"database/sql"
	"os"
	osexec "os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx"
	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/migrate"
	"github.com/rdsfx-go/rdsfx/repo"
)

func TestRun_AppliesEachFileOnce(t *testing.T) {
	t.Parallel()
	db, logs := setup(t)
	pending, err := migrate.Pending(t.Context(), db, usersAndJobs)
	require.NoError(t, err)
	assert.Equal(t, []string{"00001_users.sql", "00002_jobs.sql", "00003_index.sql"}, pending)
	require.NoError(t, migrate.Run(t.Context(), db, usersAndJobs))
	require.NoError(t, migrate.Run(t.Context(), db, usersAndJobs))
	assert.Equal(t, 2, value[int](t, db, "select count(*) from runs"))
	pending, err = migrate.Pending(t.Context(), db, usersAndJobs)
	require.NoError(t, err)
	assert.Empty(t, pending)

	applied := logs.FilterMessage("migration applied").All()
	require.Len(t, applied, 3)
	assert.Equal(t, "00001_users.sql", applied[0].ContextMap()["file"])
	assert.EqualValues(t, 3, applied[0].ContextMap()["statements"])
	require.Eventually(t, func() bool { // the server takes a moment to end a session
		return value[int](t, db, `select count(*) from pg_stat_activity
			where application_name like '%/migrat%' and datname = current_database()`) == 0
	}, time.Minute, time.Millisecond, "no connection remains")
}

func TestRun_AppliesOnceForManyProcesses(t *testing.T) {
	t.Parallel()
	t.Run("direct", func(t *testing.T) {
		t.Parallel()
		url := fxtest.URL(t)
		migrateInProcesses(t, url, processURL+"="+url)
	})
	t.Run("behind PgBouncer", func(t *testing.T) {
		t.Parallel()
		pooled, url := pgBouncer(t)
		migrateInProcesses(t, url, processURL+"="+pooled.URL, processPooler+"="+string(pooled.Pooler))
	})
}

// migrateInProcesses starts ten processes with the environment that migrate the empty database at url.
func migrateInProcesses(t *testing.T, url string, environment ...string) {
	t.Helper()
	processes := make([]*osexec.Cmd, 10)
	for i := range processes {
		processes[i] = osexec.CommandContext(t.Context(), os.Args[0])
		processes[i].Env = append(os.Environ(), environment...)
		processes[i].Stderr = os.Stderr
		require.NoError(t, processes[i].Start())
	}
	for _, process := range processes {
		require.NoError(t, process.Wait())
	}
	db := started(t, pgfx.Config{URL: url})
	assert.Equal(t, 2, value[int](t, db, "select count(*) from runs"))
	assert.Equal(t, 4, value[int](t, db, "select count(*) from goose_db_version"), "with goose's own zero version")
	assert.Equal(t, 3, value[int](t, db, "select count(*) from goose_db_version_checksums where statements_done is null"))
}

func TestRun_ContinuesAfterKilledProcess(t *testing.T) {
	t.Parallel()
	url := fxtest.URL(t)
	process := osexec.CommandContext(t.Context(), os.Args[0])
	process.Env = append(os.Environ(), processURL+"="+url, processSlow+"=1")
	require.NoError(t, process.Start())
	db := started(t, pgfx.Config{URL: url})
	awaitSleep(t, db)
	require.NoError(t, process.Process.Kill())
	require.Error(t, process.Wait())
	require.NoError(t, migrate.Run(t.Context(), db, files("1_a.sql", "-- +goose Up\ncreate table a (id int);\n")))
}

type user struct {
	ID    int64  `db:"id,pk"`
	Email string `db:"email"`
}

func TestModule_MigratesBeforeTheSchemaCheck(t *testing.T) {
	t.Parallel()
	var users *repo.Repository[user, int64]
	fxtest.New(t, fxtest.Fx(
		migrate.Module(usersAndJobs), repo.Provide[user, int64]("users"), rdsfx.ProvideSchemaPolicy(rdsfx.SchemaFail), fx.Populate(&users),
	))
	require.NoError(t, users.Create(t.Context(), &user{ID: 1, Email: "ada@example.com"}))
}

func TestRun_Modes(t *testing.T) {
	t.Parallel()
	db, _ := setup(t)
	err := migrate.Run(t.Context(), db, usersAndJobs, migrate.WithMode(migrate.ModeCheck))
	var pending *migrate.PendingError
	require.ErrorAs(t, err, &pending)
	assert.Len(t, pending.Files, 3)
	require.ErrorContains(t, err, "3 migrations are pending (00001_users.sql, 00002_jobs.sql, 00003_index.sql)")
	require.NoError(t, migrate.Run(t.Context(), db, nil, migrate.WithMode(migrate.ModeOff)))
	assert.False(t, value[bool](t, db, "select to_regclass('goose_db_version') is not null"), "neither mode creates a table")
	require.NoError(t, migrate.Run(t.Context(), db, usersAndJobs))
	require.NoError(t, migrate.Run(t.Context(), db, usersAndJobs, migrate.WithMode(migrate.ModeCheck)))
}

func TestRun_ModeFromEnvironment(t *testing.T) {
	db, _ := setup(t)
	t.Setenv("DATABASE_MIGRATE_MODE", "check")
	var pending *migrate.PendingError
	require.ErrorAs(t, migrate.Run(t.Context(), db, usersAndJobs), &pending)
	require.ErrorAs(t, migrate.Run(t.Context(), db, usersAndJobs, migrate.WithMode("")), &pending, "an empty setting")
	require.NoError(t, migrate.Run(t.Context(), db, usersAndJobs, migrate.WithMode(migrate.ModeOff)), "code wins")
	t.Setenv("DATABASE_MIGRATE_MODE", "maybe")
	require.EqualError(t, migrate.Run(t.Context(), db, usersAndJobs), `migrate: DATABASE_MIGRATE_MODE is "maybe": set it to run, check or off`)
}

func TestRun_FailingStatement(t *testing.T) {
	t.Parallel()
	db, _ := setup(t)
	broken := files("1_a.sql", "-- +goose Up\ncreate table a (id int);\n\nselect 1 / 0;\n")
	err := migrate.Run(t.Context(), db, broken)
	var failed *migrate.StatementError
	require.ErrorAs(t, err, &failed)
	assert.Equal(t, "1_a.sql", failed.File)
	assert.Equal(t, 4, failed.Line)
	var pgErr *pgconn.PgError
	require.ErrorAs(t, err, &pgErr)
	assert.Equal(t, "22012", pgErr.Code)
	require.ErrorContains(t, err, "migrate: 1_a.sql, line 4: ")
	assert.False(t, value[bool](t, db, "select to_regclass('a') is not null"), "nothing is half done")
	require.NoError(t, migrate.Run(t.Context(), db, files("1_a.sql", "-- +goose Up\ncreate table a (id int);\n")))
}

func TestRun_FailingFileWithoutTransaction(t *testing.T) {
	t.Parallel()
	db, logs := setup(t)
	text := "-- +goose NO TRANSACTION\n-- +goose Up\ncreate table a (id int);\ninsert into a values (1), (1);\n" +
		"create unique index concurrently a_id on a (id);\n"
	err := migrate.Run(t.Context(), db, files("1_a.sql", text))
	require.ErrorContains(t, err, "1_a.sql, line 5")
	require.ErrorContains(t, err, "statements before this one are kept, and the next run continues here")
	require.ErrorContains(t, err, "invalid indexes: [a_id]; the next run replaces those that its CREATE INDEX CONCURRENTLY names")

	changed := strings.Replace(text, "(id int)", "(id bigint)", 1)
	var changedErr *migrate.ChangedError
	require.ErrorAs(t, migrate.Run(t.Context(), db, files("1_a.sql", changed)), &changedErr)
	require.EqualError(t, changedErr, "migrate: the first 2 statements of 1_a.sql changed after they were applied by an interrupted run; "+
		"restore them, and change only those that follow")

	exec(t, db, "delete from a where ctid = (select min(ctid) from a)")
	require.NoError(t, migrate.Run(t.Context(), db, files("1_a.sql", text)), "it continues with the index, which it replaces")
	assert.True(t, value[bool](t, db, "select indisvalid from pg_index where indexrelid = 'a_id'::regclass"))
	assert.Equal(t, 1, logs.FilterMessage("continuing an interrupted migration").Len())
	assert.Equal(t, 1, logs.FilterMessage("dropping the invalid index of an interrupted migration").Len())
	require.NoError(t, migrate.Run(t.Context(), db, files("1_a.sql", text), migrate.WithMode(migrate.ModeCheck)))
}

func TestRun_HintsAtNoTransaction(t *testing.T) {
	t.Parallel()
	db, _ := setup(t)
	err := migrate.Run(t.Context(), db, files("1_a.sql", "-- +goose Up\ncreate table a (id int);\ncreate index concurrently on a (id);\n"))
	require.ErrorContains(t, err, `1_a.sql, line 3`)
	require.ErrorContains(t, err, `put "-- +goose NO TRANSACTION" into the file`)
}

func TestRun_ChangedFile(t *testing.T) {
	t.Parallel()
	db, _ := setup(t)
	require.NoError(t, migrate.Run(t.Context(), db, files("1_a.sql", "-- +goose Up\ncreate table a (id int);\n")))
	changed := files("1_a.sql", "-- +goose Up\ncreate table a (id bigint);\n")
	for _, mode := range []migrate.Mode{migrate.ModeRun, migrate.ModeCheck} {
		var changedErr *migrate.ChangedError
		require.ErrorAs(t, migrate.Run(t.Context(), db, changed, migrate.WithMode(mode)), &changedErr)
		assert.Equal(t, []string{"1_a.sql"}, changedErr.Files)
		require.ErrorContains(t, changedErr, "1_a.sql changed after it was applied; restore the file")
	}
	sameLines := files("1_a.sql", "-- +goose Up\r\ncreate table a (id int);\r\n")
	require.NoError(t, migrate.Run(t.Context(), db, sameLines), "line ends do not count")
}

func TestRun_OutOfOrder(t *testing.T) {
	t.Parallel()
	db, logs := setup(t)
	require.NoError(t, migrate.Run(t.Context(), db, files("1_a.sql", "-- +goose Up\nselect 1;\n", "3_c.sql", "-- +goose Up\nselect 1;\n")))
	all := files("1_a.sql", "-- +goose Up\nselect 1;\n", "2_b.sql", "-- +goose Up\nselect 1;\n", "3_c.sql", "-- +goose Up\nselect 1;\n")
	err := migrate.Run(t.Context(), db, all)
	var order *migrate.OrderError
	require.ErrorAs(t, err, &order)
	require.EqualError(t, err, "migrate: 2_b.sql would be applied after version 3; give it a newer version, or permit it by WithOutOfOrder")
	require.NoError(t, migrate.Run(t.Context(), db, all, migrate.WithOutOfOrder()))

	require.NoError(t, migrate.Run(t.Context(), db, files("1_a.sql", "-- +goose Up\nselect 1;\n")), "an older program starts")
	assert.Equal(t, 1, logs.FilterMessage("the database is newer than this program").Len())
}

func TestRun_AdoptsDatabaseOfGoose(t *testing.T) {
	t.Parallel()
	db, _ := setup(t)
	provider, err := goose.NewProvider(goose.DialectPostgres, db.SQL(), usersAndJobs)
	require.NoError(t, err)
	_, err = provider.Up(t.Context())
	require.NoError(t, err)
	require.NoError(t, migrate.Run(t.Context(), db, usersAndJobs))
	assert.Equal(t, 3, value[int](t, db, "select count(*) from goose_db_version_checksums"))
	assert.Equal(t, 2, value[int](t, db, "select count(*) from runs"))
}

func TestRun_AppliesFileThatGooseHasUndone(t *testing.T) {
	t.Parallel()
	db, _ := setup(t)
	first := files("1_a.sql", "-- +goose Up\ncreate table a (id int);\n-- +goose Down\ndrop table a;\n")
	require.NoError(t, migrate.Run(t.Context(), db, first))
	provider, err := goose.NewProvider(goose.DialectPostgres, db.SQL(), first)
	require.NoError(t, err)
	_, err = provider.Down(t.Context())
	require.NoError(t, err)

	edited := files("1_a.sql", "-- +goose Up\ncreate table a (id bigint, note text);\n-- +goose Down\ndrop table a;\n")
	require.NoError(t, migrate.Run(t.Context(), db, edited), "an undone file may change")
	assert.Zero(t, value[int](t, db, "select count(note) from a"))
	require.ErrorAs(t, migrate.Run(t.Context(), db, first), new(*migrate.ChangedError), "its new checksum is recorded")
}

func TestRun_GoMigration(t *testing.T) {
	t.Parallel()
	db, _ := setup(t)
	added := goose.NewGoMigration(4, &goose.GoFunc{RunTx: func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "insert into runs values (4)")
		return err
	}}, nil)
	require.NoError(t, migrate.Run(t.Context(), db, usersAndJobs, migrate.WithGoMigrations(added)))
	assert.Equal(t, 3, value[int](t, db, "select count(*) from runs"))
}

func TestStep_BelongsToDatabase(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "reporting", migrate.Step(usersAndJobs, migrate.WithDatabase("reporting")).Database())
}

func TestRun_RejectsOptions(t *testing.T) {
	t.Parallel()
	db, _ := setup(t)
	for want, opt := range map[string]migrate.Option{
		`migrate: WithMode("x"): use one of run, check, off`:        migrate.WithMode("x"),
		`migrate: WithDir("/x"): use a path of io/fs`:               migrate.WithDir("/x"),
		`migrate: WithTable: use a table name`:                      migrate.WithTable(" "),
		`migrate: WithProgress(0s): use a positive duration`:        migrate.WithProgress(0),
		`migrate: WithLockWait(-1s): use a positive duration`:       migrate.WithLockWait(-time.Second),
		`migrate: WithLockTimeout(0s, 1s): use positive durations`:  migrate.WithLockTimeout(0, time.Second),
		`migrate: WithDataLockTimeout(0s): use a positive duration`: migrate.WithDataLockTimeout(0),
	} {
		require.ErrorContains(t, migrate.Run(t.Context(), db, usersAndJobs, opt), want)
	}
}

package fxtest_test

import (
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/repo"
)

const createUsers = "-- +goose Up\ncreate table users (id bigint primary key, email text, age int);\ncreate table orders (id bigint primary key, user_id bigint);\n"

var seedUsers = fstest.MapFS{"2_change.sql": sql("insert into users select i, 'u' || i, i from generate_series(1, 1000) i")}

func TestMigrationLocks_FindsBlockingStatements(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ change, problem, fix string }{
		"index":          {"create index users_email on users (email);", "users is scanned while a lock blocks", "CONCURRENTLY"},
		"type":           {"alter table users alter column age type bigint;", "users is rewritten while a lock blocks", "fill it in batches"},
		"not null":       {"alter table users alter column email set not null;", "users is scanned", "NOT VALID"},
		"check":          {"alter table users add constraint adult check (age > 0);", "users is scanned", "validate it in another migration"},
		"foreign key":    {"alter table orders add foreign key (user_id) references users (id);", "orders is scanned", "NOT VALID"},
		"volatile":       {"alter table users add column token uuid default gen_random_uuid();", "users is rewritten", "without a volatile default"},
		"backfill":       {"alter table users add column x int;\nupdate users set x = 1;", "users is scanned while", "in batches"},
		"several tables": {"alter table users add column x int;\nalter table orders add column x int;", "ACCESS EXCLUSIVE locks on orders and users", "one table"},
		"used column":    {"alter table users drop column email;", "column email of table users, which a model uses, is removed", "remove the field first"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			model, err := repo.ModelOf[lockedUser, int64]("users")
			require.NoError(t, err)
			files := fstest.MapFS{"1_users.sql": sql(createUsers), "2_change.sql": sql("-- +goose Up\n" + test.change + "\n")}
			recorder := &failureRecorder{TB: t}
			report := fxtest.MigrationLocks(recorder, files, seedUsers, fxtest.WithUsedModels(model))
			require.Len(t, report.Findings, 1, "%v", report.Findings)
			assert.Contains(t, report.Findings[0].Problem, test.problem)
			assert.Contains(t, report.Findings[0].Fix, test.fix)
			assert.Len(t, recorder.errors, 1)
		})
	}
}

type lockedUser struct {
	ID    int64  `db:"id,pk"`
	Email string `db:"email"`
}

// failureRecorder records failures instead of failing the test.
type failureRecorder struct {
	testing.TB

	errors []string
}

func (r *failureRecorder) Errorf(format string, _ ...any) { r.errors = append(r.errors, format) }

func TestMigrationLocks_PermitsSafeStatements(t *testing.T) {
	t.Parallel()
	report := fxtest.MigrationLocks(t, fstest.MapFS{
		"1_users.sql":  sql(createUsers),
		"2_change.sql": sql("-- +goose Up\nalter table users add column x int default 1;\nalter table users add constraint adult check (age > 0) not valid;\n"),
		"3_check.sql":  sql("-- +goose Up\nalter table users validate constraint adult;\n"),
		"4_index.sql":  sql("-- +goose NO TRANSACTION\n-- +goose Up\ncreate index concurrently users_email on users (email);\nalter table orders add column x int;\n"),
		"5_permit.sql": sql("-- +goose Up\n-- locks-ok: the table is small\nalter table orders alter column x type bigint;\n"),
	}, seedUsers)
	golden := filepath.Join("testdata", "locks.golden")
	report.AssertGolden(t, golden)
	if os.Getenv(fxtest.EnvUpdate) != "" {
		return
	}

	recorder := &failureRecorder{TB: t}
	report.Files[0].Name = "other.sql"
	assert.False(t, report.AssertGolden(recorder, golden))
	assert.False(t, report.AssertGolden(recorder, "missing.golden"))
	assert.Len(t, recorder.errors, 2)
}

func TestMigrationLocks_ReportsMistakes(t *testing.T) {
	t.Parallel()
	for want, test := range map[string]struct{ files, seeds fstest.MapFS }{
		"no *.sql file":                   {fstest.MapFS{}, nil},
		"1_users.sql, line 2":             {fstest.MapFS{"1_users.sql": sql("-- +goose Up\nselect 1/0;\n")}, nil},
		"no migration has this name":      {fstest.MapFS{"1_users.sql": sql(createUsers)}, fstest.MapFS{"2_x.sql": sql("select 1")}},
		"seeds of 1_users.sql":            {fstest.MapFS{"1_users.sql": sql(createUsers)}, fstest.MapFS{"1_users.sql": sql("select 1/0")}},
		"cannot run inside a transaction": {fstest.MapFS{"1_users.sql": sql(createUsers + "create index concurrently on users (email);\n")}, nil},
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			_, err := fxtest.MigrationLocksError(t, test.files, test.seeds)
			require.ErrorContains(t, err, want)
		})
	}
}

func TestMigrationLocks_LimitsTime(t *testing.T) {
	t.Parallel()
	recorder := &failureRecorder{TB: t}
	report := fxtest.MigrationLocks(recorder, fstest.MapFS{
		"1_users.sql": sql(createUsers),
		"2_slow.sql":  sql("-- +goose Up\nalter table users add column x int;\nselect pg_sleep(0.01);\n"),
	}, nil, fxtest.WithMaxLocked(time.Millisecond))
	require.Len(t, report.Findings, 1)
	assert.Contains(t, report.Findings[0].String(), "2_slow.sql, line 2: users has an ACCESS EXCLUSIVE lock for")
}

func TestAssertModelsFit_ReportsFindings(t *testing.T) {
	t.Parallel()
	db := fxtest.DB(t, fxtest.SQL("create table users (id bigint primary key, email text not null); create table orders (id int primary key)"))
	fits, err := repo.ModelOf[lockedUser, int64]("users")
	require.NoError(t, err)
	missing, err := repo.ModelOf[lockedUser, int64]("orders")
	require.NoError(t, err)
	assert.True(t, fxtest.AssertModelsFit(t, db, fits))
	recorder := &failureRecorder{TB: t}
	assert.False(t, fxtest.AssertModelsFit(recorder, db, fits, missing))
	assert.Len(t, recorder.errors, 1)
}

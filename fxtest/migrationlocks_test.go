package fxtest_test

import (
	"fmt"
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
		"no *.sql file":              {fstest.MapFS{}, nil},
		"1_users.sql, line 2":        {fstest.MapFS{"1_users.sql": sql("-- +goose Up\nselect 1/0;\n")}, nil},
		"no migration has this name": {fstest.MapFS{"1_users.sql": sql(createUsers)}, fstest.MapFS{"2_x.sql": sql("select 1")}},
		"seeds of 1_users.sql":       {fstest.MapFS{"1_users.sql": sql(createUsers)}, fstest.MapFS{"1_users.sql": sql("select 1/0")}},
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			_, err := fxtest.MigrationLocksError(t, test.files, test.seeds)
			require.ErrorContains(t, err, want)
		})
	}
}

// TestMigrationLocks_StaticRules has the rules beside the observed locks, in files with and without a transaction, each with and
// without a comment that permits it.
func TestMigrationLocks_StaticRules(t *testing.T) {
	t.Parallel()
	model, err := repo.ModelOf[lockedUser, int64]("users")
	require.NoError(t, err)
	const up, alone = "-- +goose Up\n", "-- +goose NO TRANSACTION\n-- +goose Up\n"
	const removed = "column email of table users, which a model uses, is removed; " +
		"remove the field first, deploy, and drop the column in a later release"
	for name, test := range map[string]struct{ change, want string }{
		"CONCURRENTLY in a transaction": {
			up + "%s\ncreate index concurrently users_email on users (email);\n",
			`2_change.sql, line 3: the statement cannot run inside a transaction; put it alone into a file with "-- +goose NO TRANSACTION"`,
		},
		"dropped column":                       {up + "%s\nalter table users drop column email;\n", "2_change.sql, line 3: " + removed},
		"renamed column without a transaction": {alone + "%s\nalter table users rename column email to mail;\n", "2_change.sql, line 4: " + removed},
		"several heavy locks": {
			up + "alter table users add column x int;\n%s\nalter table orders add column x int;\n",
			"2_change.sql, line 4: one transaction holds ACCESS EXCLUSIVE locks on orders and users; change one table in each migration",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for comment, want := range map[string][]string{"-- locks-ok: the table is new": nil, "-- locks-ok:": {test.want}, "--": {test.want}} {
				files := fstest.MapFS{
					"1_users.sql": sql(createUsers), "2_change.sql": sql(fmt.Sprintf(test.change, comment)), "3_next.sql": sql(up + "select 1;\n"),
				}
				report := fxtest.MigrationLocks(&failureRecorder{TB: t}, files, nil, fxtest.WithUsedModels(model))
				var got []string
				for _, problem := range report.Findings {
					got = append(got, problem.String())
				}
				if name == "CONCURRENTLY in a transaction" {
					want = []string{test.want} // the migration would fail, so no comment permits it
				}
				assert.Equal(t, want, got, "%q", comment)
			}
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
	permitted := fxtest.MigrationLocks(t, fstest.MapFS{
		"1_users.sql": sql(createUsers),
		"2_slow.sql":  sql("-- +goose Up\nalter table users add column x int;\n/* locks-ok: no users at night */ select pg_sleep(0.01);\n"),
	}, nil, fxtest.WithMaxLocked(time.Millisecond))
	assert.Empty(t, permitted.Findings)
	assert.Contains(t, report.Findings[0].String(), "2_slow.sql, line 2: users has an ACCESS EXCLUSIVE lock for")
}

func TestAssertModelsFit_ReportsFindings(t *testing.T) {
	t.Parallel()
	db := fxtest.DB(t, fxtest.SQL("create table users (id bigint primary key, email text not null); create table orders (id int primary key)"))
	fits, err := repo.ModelOf[lockedUser, int64]("users")
	require.NoError(t, err)
	missing, err := repo.ModelOf[lockedUser, int64]("orders")
	require.NoError(t, err)
	type order struct {
		ID int64 `db:"id,pk"`
	}
	advised, err := repo.ModelOf[order, int64]("orders")
	require.NoError(t, err)
	assert.True(t, fxtest.AssertModelsFit(t, db, fits, advised), "an int64 in an integer is advice")
	recorder := &failureRecorder{TB: t}
	assert.False(t, fxtest.AssertModelsFit(recorder, db, fits, missing))
	assert.Len(t, recorder.errors, 1)
}

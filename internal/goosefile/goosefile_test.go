package goosefile_test

import (
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/internal/goosefile"
)

func TestParse_SplitsStatements(t *testing.T) {
	t.Parallel()
	f, err := goosefile.Parse("00002_all.sql", `-- +goose NO TRANSACTION
-- +goose Up
-- the users
create table users (name text default 'a;b');

create index concurrently on users (name); -- by name
-- +goose StatementBegin
create function f() returns int language plpgsql as $$
begin
  return 1; -- one
end $$;
-- +goose StatementEnd
select 1;
-- done

-- +goose Down
drop table users;
`)
	require.NoError(t, err)
	assert.EqualValues(t, 2, f.Version)
	assert.False(t, f.Transaction)
	require.Len(t, f.Up, 4)
	assert.Equal(t, goosefile.Statement{Line: 4, SQL: "-- the users\ncreate table users (name text default 'a;b')"}, f.Up[0])
	assert.Equal(t, 6, f.Up[1].Line)
	assert.Equal(t, 8, f.Up[2].Line)
	assert.Contains(t, f.Up[2].SQL, "end $$")
	assert.Contains(t, f.Up[3].SQL, "select 1")
	assert.Equal(t, 13, f.Up[3].Line)
}

func TestParse_RejectsFiles(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ file, text, want string }{
		"no version":      {"users.sql", "-- +goose Up\nselect 1;", "users.sql has no version; name it like 00001_users.sql"},
		"no statement":    {"1_a.sql", "-- +goose Up\n-- later\n", `1_a.sql has no statement after "-- +goose Up": put this line before its statements`},
		"only down":       {"1_a.sql", "-- +goose Down\nselect 1;\n", "1_a.sql has no statement"},
		"no semicolon":    {"1_a.sql", "-- +goose Up\nselect 1;\nselect 2\n", "1_a.sql: line 3: the last statement has no semicolon"},
		"open quotes":     {"1_a.sql", "-- +goose Up\nselect 'a;\n", "1_a.sql: line 2: a quoted text or comment has no end"},
		"before down":     {"1_a.sql", "-- +goose Up\nselect 1;\nselect 2\n-- +goose Down\nselect 3;\n", "1_a.sql: line 3: the last statement has no semicolon"},
		"open block":      {"1_a.sql", "-- +goose Up\n-- +goose StatementBegin\nselect 1;\n", `1_a.sql: line 3: "-- +goose StatementEnd" is missing`},
		"annotation":      {"1_a.sql", "-- +goose Up\n-- +goose Transaction\nselect 1;\n", `1_a.sql: line 2: goose has no annotation "Transaction"`},
		"psql":            {"1_a.sql", "-- +goose Up\nselect 1;\n\\connect shop\n", `1_a.sql: line 3: \connect is a command of psql and not SQL: remove it`},
		"copy":            {"1_a.sql", "-- +goose Up\ncopy t from stdin;\nit's\n\\.\n", `1_a.sql: line 2: COPY FROM stdin needs psql`},
		"no variable":     {"1_a.sql", "-- +goose ENVSUB ON\n-- +goose Up\nselect ${RDSFX_NOT_SET};\n", `1_a.sql: line 3: the environment variable RDSFX_NOT_SET is not set`},
		"version is zero": {"0_a.sql", "-- +goose Up\nselect 1;\n", "0_a.sql has no version"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := goosefile.Parse(test.file, test.text)
			require.ErrorContains(t, err, test.want)
		})
	}
}

func TestParse_ReplacesVariables(t *testing.T) {
	t.Setenv("RDSFX_SCHEMA", "shop")
	f, err := goosefile.Parse("1_a.sql", "-- +goose Up\n-- +goose ENVSUB ON\nselect '$RDSFX_SCHEMA', '${RDSFX_SCHEMA}', '${RDSFX_X:-x}', '${RDSFX_X-y}', $1, $$a$$;\n"+
		"-- +goose ENVSUB OFF\nselect '${RDSFX_SCHEMA}';\n")
	require.NoError(t, err)
	assert.Equal(t, "select 'shop', 'shop', 'x', 'y', $1, $$a$$", f.Up[0].SQL)
	assert.Equal(t, "select '${RDSFX_SCHEMA}'", f.Up[1].SQL)
}

func TestParse_SkipsRestrict(t *testing.T) {
	t.Parallel()
	f, err := goosefile.Parse("1_a.sql", "-- +goose Up\n\\restrict abc\ncreate table a (id int);\n\\unrestrict abc\n")
	require.NoError(t, err)
	assert.Equal(t, []goosefile.Statement{{Line: 3, SQL: "create table a (id int)"}}, f.Up)
}

func TestReadDir_OrdersByVersion(t *testing.T) {
	t.Parallel()
	up := &fstest.MapFile{Data: []byte("-- +goose Up\nselect 1;\n")}
	files, err := goosefile.ReadDir(fstest.MapFS{"10_b.sql": up, "9_a.sql": up, "readme.md": up})
	require.NoError(t, err)
	require.Len(t, files, 2)
	assert.Equal(t, "9_a.sql", files[0].Name)
	_, err = goosefile.ReadDir(fstest.MapFS{"1_b.sql": up, "01_a.sql": up, "c.sql": up})
	require.ErrorContains(t, err, "have the same version")
	require.ErrorContains(t, err, "c.sql has no version")
	_, err = goosefile.ReadDir(fstest.MapFS{})
	require.ErrorContains(t, err, "no *.sql file in the directory")
}

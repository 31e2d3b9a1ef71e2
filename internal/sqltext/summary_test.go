package sqltext_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/rdsfx-go/rdsfx/internal/sqltext"
)

func TestSummarize_ListsOperationsAndTables(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]string{
		"": "", ";": "", "  ": "", "-- nothing": "",
		"SELECT * FROM wuser_table WHERE username = ?":                                                             "SELECT wuser_table",
		"INSERT INTO shipping_details (order_id, address) SELECT order_id, address FROM orders WHERE order_id = ?": "INSERT shipping_details SELECT orders",
		"SELECT * FROM songs, artists WHERE songs.artist_id = artists.id":                                          "SELECT songs artists",
		"SELECT order_date FROM (SELECT * FROM orders o JOIN customers c ON o.customer_id = c.customer_id)":        "SELECT SELECT orders customers", //nolint:dupword // one for each query
		`SELECT * FROM "song list", public.artists`:                                                                `SELECT "song list" public.artists`,
		"call some_procedure(1)":                                             "call some_procedure",
		"-- name: GetUser :one\nselect id from users where id = $1":          "GetUser",
		"-- from the report\n-- name: ListUsers :many\nselect id from users": "ListUsers",
		"select 1 -- name: Not :one":                                         "select",
		"select a, (select b from c where d = (e)), f from g as h, i j left join only k on true, l where m in (n, o)":            "select select c g i k l", //nolint:dupword // one for each query
		"select extract(year from born), trim(both from name) from people where a is distinct from b":                            "select people",
		"select * from generate_series(1, 10), unnest($1::int[]) as u, users":                                                    "select users",
		"select * from users, lateral (select * from orders) o for update":                                                       "select users select orders",
		"select * from ((a join b on true) join c using (id)), d":                                                                "select a b c d",
		"insert into users(id) values (1) on conflict (id) do update set id = excluded.id returning id":                          "insert users",
		"update only users set a = b.c from b where true returning *":                                                            "update users b",
		"delete from users using roles where true":                                                                               "delete users",
		"merge into users u using new n on true when matched then update set a = 1 when not matched then insert values (1)":      "merge users",
		"with recent as (select * from orders), old as materialized (delete from carts returning *) select * from recent, users": "select orders delete carts select users",
		"(select 1 from a) union all (select 2 from b)":                                                                          "select a select b",
		"select count(*) filter (where a > 0) over (order by b) from c order by d, e":                                            "select c",
		"values (1), (2)": "values",
		"create table if not exists app.users (id int references a on delete cascade)": "create table app.users",
		"create unique index concurrently users_email on users (email)":                "create unique index users_email",
		"truncate users, orders":                  "truncate users",
		"alter table only users add column a int": "alter table users",
		`copy "users" from stdin`:                 `copy "users"`,
		"begin isolation level serializable":      "begin", "rollback to savepoint sp_17": "rollback", "set local a = 'secret'": "set",
		"alter role app password 'secret'":              "alter role app",
		"select 'from secret', $$ from x $$ from users": "select users",
	} {
		summary, _ := sqltext.Summarize(sql)
		assert.Equal(t, want, summary, sql)
	}
}

func TestSummarize_ReportsReturning(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]bool{
		"insert into a values (1) returning id": true, "-- name: Add :one\ninsert into a values (1) returning id": true,
		"insert into a values (1)": false, "select returning from a where b = 'returning'": true, "select 'returning'": false,
		"with b as (delete from a returning id) insert into c select id from b": false,
	} {
		_, returning := sqltext.Summarize(sql)
		assert.Equal(t, want, returning, sql)
	}
}

func TestSummarize_IsShortAndCutsNoName(t *testing.T) {
	t.Parallel()
	table := strings.Repeat("x", 60)
	summary, _ := sqltext.Summarize("select * from " + strings.Repeat(table+",", 10) + table)
	assert.Equal(t, "select "+strings.TrimSpace(strings.Repeat(table+" ", 4)), summary)
}

func FuzzSummarize(f *testing.F) {
	f.Add("with a as (select 1) select * from a, b.c")
	f.Add("insert into (((")
	f.Fuzz(func(t *testing.T, sql string) {
		summary, _ := sqltext.Summarize(sql)
		assert.LessOrEqual(t, len(summary), 255)
	})
}

package repo_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/repo"
)

// ranked is a row that pages are ordered by.
type ranked[V any] struct {
	ID    int64 `db:"id,pk"`
	Value V
	Other *string
}

// pagedTypes are columns whose values a Go type can't hold, can't compare or compares in another way than the server.
func pagedTypes() map[string]func(t *testing.T) {
	numbers := []string{
		"1.1", "1.10", "0.1", "12345678901234567890.123456789", "12345678901234567890.123456788", "-0", "0", "NaN", "NaN", "1e-30",
	}
	intervals := []string{"1 mon", "30 days", "720:00:00", "-1 day", "null", "24:00:00"}
	ids := []string{
		"A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "00000000-0000-0000-0000-000000000000",
	}
	infinite := append(slices.Clone(numbers), "Infinity", "-Infinity", "Infinity")
	pairs := []string{"(10,a)", "(9,b)", "(9,)", "(,a)", "null", `(9,"B ")`, "(9,b)"}
	words := []string{"a", "A", "ä", "b", "B", "a ", " a", "", "Z", "a", "\U0001F600", `"quoted",{}`, `back\slash`}
	return map[string]func(t *testing.T){
		"numeric in float64":      checkPages[float64]("numeric", infinite),
		"numeric in float32":      checkPages[*float32]("numeric", append(numbers, "null", "null")),
		"numeric in a string":     checkPages[string]("numeric", infinite),
		"float8 in float32":       checkPages[float32]("float8", append(infinite, "0.30000000000000004", "0.3")),
		"float8":                  checkPages[float64]("float8", append(infinite, "0.30000000000000004", "0.3")),
		"float4 in float64":       checkPages[*float64]("float4", []string{"0.1", "0.3", "null", "NaN", "1e-40", "0.1", "null"}),
		"text":                    checkPages[*string]("text", append(slices.Clone(words), "null", "null")),
		"text without case":       checkPages[string]("text collate nocase", words),
		"text without case, null": checkPages[*string]("text collate nocase", append(slices.Clone(words), "null", "null")),
		"text of ICU":             checkPages[string](`text collate "und-x-icu"`, words),
		"citext":                  checkPages[*string]("citext", append(slices.Clone(words), "null")),
		"char(8)":                 checkPages[string]("char(12)", words),
		"domain":                  checkPages[string]("email", words),
		"timestamptz":             checkPages[pgtype.Timestamptz]("timestamptz", timestamps()),
		"interval":                checkPages[pgtype.Interval]("interval", intervals),
		"enum":                    checkPages[string]("feeling", []string{"sad", "ok", "happy", "ok", "sad"}),
		"bytea":                   checkPages[[]byte]("bytea", []string{`\x00ff`, `\x`, `\x00`, "null", `\x00ff`}),
		"uuid":                    checkPages[string]("uuid", ids),
		"domain over an enum":     checkPages[string]("grade", []string{"sad", "ok", "happy", "ok", "sad"}),
		"composite type":          checkPages[*string]("pair", pairs),
		"domain over a composite": checkPages[*string]("couple", pairs),
		"composite types":         checkPages[*string]("pair[]", []string{`{"(2,a)","(1,b)"}`, "{}", "null", `{"(1,)"}`, `{"(2,a)"}`}),
		"hstore":                  checkPages[*string]("hstore", []string{`"a"=>"1"`, `"b"=>"1"`, "", `"a"=>NULL`, "null", `"a"=>"1"`}),
		"regproc":                 checkPages[*string]("regprocedure", []string{"max(bigint)", "max(int)", "now()", "max(int)", "-", "null"}),
		"regtype":                 checkPages[string]("regtype", []string{"text", "bigint", "-", "regtype", "text"}),
		"text[]":                  checkPages[[]string]("text[]", []string{`{a,"b,c"}`, `{}`, `{a}`, "null", `{"A","NULL"}`}),
	}
}

func timestamps() []string {
	return []string{
		"infinity", "2024-02-29 12:00:00.123456+00", "2024-02-29 12:00:00.123457+00", "-infinity", "null", "0044-03-15 BC",
		"2024-02-29 14:00:00.123456+02", "infinity",
	}
}

func checkPages[V any](typ string, values []string) func(t *testing.T) {
	return func(t *testing.T) {
		t.Helper()
		m := newManager(t, sameKeysDDL, "create type feeling as enum ('sad', 'ok', 'happy')", "create domain grade as feeling",
			"create type pair as (a int, b text)", "create domain couple as pair", "create extension if not exists hstore",
			"create table ranked (id bigint primary key, value "+typ+", other text collate nocase)")
		for i, value := range values {
			other := []any{nil, "x", "X"}[i%3]
			literal := any(value)
			if value == "null" {
				literal = nil
			}
			_, err := m.Exec(t.Context(), "insert into ranked select $1::bigint, $2::text::"+castOf(typ)+", $3::text", i, literal, other)
			require.NoError(t, err)
		}
		r := newRepo[ranked[V], int64](t, m, "ranked")
		for _, orders := range [][]repo.QueryOption{ // the last one is what Page adds
			{repo.Asc("value"), repo.Asc("id")},
			{repo.Desc("value"), repo.Desc("id")},
			{repo.Asc("value").NullsFirst(), repo.Asc("id")},
			{repo.Desc("value").NullsLast(), repo.Desc("id")},
			{repo.Desc("value"), repo.Asc("other"), repo.Asc("id")},
			{repo.Asc("other").NullsFirst(), repo.Desc("value"), repo.Desc("id")},
		} {
			checkOrder(t, r, len(values), orders)
		}
	}
}

// castOf returns a type without its collation.
func castOf(typ string) string {
	var name, collation string
	if n, _ := fmt.Sscanf(typ, "%s collate %s", &name, &collation); n == 2 {
		return name
	}
	return typ
}

// checkOrder pages forth and back in every size and compares with one query.
func checkOrder[V any](t *testing.T, r *repo.Repository[ranked[V], int64], n int, orders []repo.QueryOption) {
	t.Helper()
	ctx := t.Context()
	want, err := repo.Column[int64](ctx, r, "id", orders...)
	require.NoError(t, err)
	require.Len(t, want, n)
	orders = orders[:len(orders)-1]
	for _, size := range []int{1, 2, 3, n} {
		var got, back []int64
		var last *repo.Page[ranked[V]]
		for cursor := ""; ; cursor = last.Next {
			page, err := r.Page(ctx, cursor, size, orders...)
			require.NoError(t, err)
			require.NotEmpty(t, page.Rows)
			for i := range page.Rows {
				got = append(got, page.Rows[i].ID)
			}
			if last = page; page.Next == "" || len(got) > n {
				break
			}
		}
		require.Equal(t, want, got, "size %d, %v", size, orders)
		for page := last; ; {
			for _, row := range slices.Backward(page.Rows) {
				back = append(back, row.ID)
			}
			if page.Previous == "" || len(back) > n {
				break
			}
			page, err = r.Page(ctx, page.Previous, size, orders...)
			require.NoError(t, err)
		}
		slices.Reverse(back)
		require.Equal(t, want, back, "backward, size %d, %v", size, orders)
	}
}

func TestPage_EveryTypeInTheServersOrder(t *testing.T) {
	t.Parallel()
	for name, check := range pagedTypes() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(t)
		})
	}
}

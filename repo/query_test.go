package repo_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/repo"
)

type sqlizer struct {
	sql  string
	args []any
	err  error
}

func (s sqlizer) ToSql() (string, []any, error) { return s.sql, s.args, s.err } //nolint:revive,staticcheck // squirrel's name

// Noted has a JSON column for any value.
type Noted struct {
	ID   int `db:"id,pk"`
	Note any `db:"note,json"`
}

func TestFilter_EncodesJSONLikeTheField(t *testing.T) {
	t.Parallel()
	rows := newRepo[Noted, int](t, newManager(t, "create table noted (id int primary key, note jsonb)"), "noted")
	for i, note := range []any{"5", json.Number("5"), map[string]any{"a": json.Number("1")}, nil} {
		require.NoError(t, rows.Create(t.Context(), &Noted{ID: i, Note: note}))
		got, err := rows.Find(t.Context(), repo.Eq("note", note))
		require.NoError(t, err)
		assert.Equal(t, []Noted{{ID: i, Note: note}}, got)
	}
}

func TestFilter_SelectsRows(t *testing.T) {
	t.Parallel()
	_, users := newUsers(t)
	ctx := t.Context()
	require.NoError(t, users.CreateMany(ctx, []User{
		{Email: "a", Age: 1, Name: new("Ada"), Tags: []string{"x", "y"}},
		{Email: "b", Age: 2, Name: new("Bob%"), Tags: []string{"y"}},
		{Email: "c", Age: 3, Tags: []string{}},
		{Email: "d", Age: 4, Name: new(`d_\a`)},
	}))
	var noName *string
	for _, c := range []struct {
		name   string
		filter repo.Filter
		want   []string
	}{
		{"eq", repo.Eq("name", "Ada"), []string{"a"}},
		{"eq nil", repo.Eq("name", nil), []string{"c"}},
		{"eq nil pointer", repo.Eq("name", noName), []string{"c"}},
		{"eq invalid null type", repo.Eq("name", sql.NullString{}), []string{"c"}},
		{"eq nil slice", repo.Eq("tags", []string(nil)), []string{"d"}},
		{"in with an invalid null type", repo.In("name", sql.NullString{String: "Ada", Valid: true}, sql.NullString{}), []string{"a", "c"}},
		{"not eq treats null as different", repo.NotEq("name", "Ada"), []string{"b", "c", "d"}},
		{"not eq nil", repo.NotEq("name", nil), []string{"a", "b", "d"}},
		{"lt", repo.Lt("age", 2), []string{"a"}},
		{"lte", repo.Lte("age", 2), []string{"a", "b"}},
		{"gt", repo.Gt("age", 3), []string{"d"}},
		{"gte", repo.Gte("age", 3), []string{"c", "d"}},
		{"between", repo.Between("age", 2, 3), []string{"b", "c"}},
		{"in", repo.In("age", 1, 3, 9), []string{"a", "c"}},
		{"in any", repo.In[any]("age", 1, 3), []string{"a", "c"}},
		{"in nothing", repo.In[int]("age"), []string{}},
		{"in nil slice", repo.In("age", []int(nil)...), []string{}},
		{"in with nil", repo.In("name", new("Ada"), nil), []string{"a", "c"}},
		{"not in", repo.NotIn("age", 1, 3), []string{"b", "d"}},
		{"not in treats null as different", repo.NotIn("name", "Ada"), []string{"b", "c", "d"}},
		{"not in with nil", repo.NotIn("name", new("Ada"), nil), []string{"b", "d"}},
		{"not in nothing", repo.NotIn[int]("age"), []string{"a", "b", "c", "d"}},
		{"is null", repo.IsNull("name"), []string{"c"}},
		{"not null", repo.IsNotNull("name"), []string{"a", "b", "d"}},
		{"like", repo.Like("name", "%d%"), []string{"a", "d"}},
		{"ilike", repo.ILike("name", "ADA"), []string{"a"}},
		{"prefix", repo.Prefix("name", "d_"), []string{"d"}},
		{"suffix", repo.Suffix("name", "%"), []string{"b"}},
		{"contains", repo.Contains("name", `_\`), []string{"d"}},
		{"contains fold", repo.ContainsFold("name", "BOB%"), []string{"b"}},
		{"contains is literal", repo.Contains("name", "_"), []string{"d"}},
		{"array contains", repo.ArrayContains("tags", "x"), []string{"a"}},
		{"array contains nothing", repo.ArrayContains[string]("tags"), []string{"a", "b", "c"}},
		{"array overlaps", repo.ArrayOverlaps("tags", "x", "y"), []string{"a", "b"}},
		{"array overlaps nothing", repo.ArrayOverlaps[string]("tags"), []string{}},
		{"and", repo.And(repo.Gt("age", 1), repo.Lt("age", 4)), []string{"b", "c"}},
		{"and nothing", repo.And(), []string{"a", "b", "c", "d"}},
		{"or", repo.Or(repo.Eq("age", 1), repo.Eq("age", 4)), []string{"a", "d"}},
		{"or nothing", repo.Or(), []string{}},
		{"not treats unknown as false", repo.Not(repo.Eq("name", "Ada")), []string{"b", "c", "d"}},
		{"not and", repo.Not(repo.And(repo.Gt("age", 1), repo.Lt("age", 4))), []string{"a", "d"}},
		{"raw", repo.Where("age = $1 or age = $2", 1, 2), []string{"a", "b"}},
		{"raw reuses", repo.Where("age = $1 or age = $2 + $1", 2, 2), []string{"b", "d"}},
		{"raw out of order", repo.Where("age < $2 and age > $1", 1, 3), []string{"b"}},
		{"raw named", repo.Where("age = @age or age=@age+1", pgx.NamedArgs{"age": 1}), []string{"a", "b"}},
		{"raw strictly named", repo.Where("age =@age", pgx.StrictNamedArgs{"age": 1}), []string{"a"}},
		{"raw quoting", repo.Where(`email <> '$1' and "age" = $1 -- $2`, 1), []string{"a"}},
		{"raw operators", repo.Where("tags @> $1::text[] and settings ? 'theme' and not settings @? '$.a'", []string{"y"}), []string{"a", "b"}},
		{"raw without arguments", repo.Where("age % 2 = 0 /* even /* really */ */"), []string{"b", "d"}},
		{"raw dollar quotes", repo.Where("email = $x$a$x$ and $1::int = 1 and 'a' = $$a$$", 1), []string{"a"}},
		{"raw escapes", repo.Where(`email <> E'\'$1' and age = $1`, 1), []string{"a"}},
		{"squirrel", repo.Expr(sqlizer{sql: "age = ? and settings ?? ?", args: []any{1, "theme"}}), []string{"a"}},
		{"squirrel with dollars", repo.Expr(sqlizer{sql: "age = $1 and settings ? 'theme'", args: []any{1}}), []string{"a"}},
	} {
		found, err := users.Find(ctx, c.filter, repo.Where("age < $1", 100), repo.Asc("age"))
		require.NoError(t, err, c.name)
		assert.Equal(t, c.want, emails(found), c.name)
		again, err := users.Find(ctx, repo.Or(c.filter, repo.Or()), repo.Asc("age"))
		require.NoError(t, err, c.name)
		assert.Equal(t, c.want, emails(again), "nested: "+c.name)
	}
}

func TestQuery_RejectsMalformedOptions(t *testing.T) {
	t.Parallel()
	_, users := newUsers(t)
	ctx := t.Context()
	boom := errors.New("boom")
	for want, opt := range map[string]repo.QueryOption{
		`no column "nothing"`:                  repo.Eq("nothing", 1),
		`no column "email desc; drop table x"`: repo.Desc("email desc; drop table x"),
		`no column "1;drop"`:                   repo.OrderBy("1;drop"),
		`order "email sideways"`:               repo.OrderBy("email sideways"),
		`order "" is empty`:                    repo.OrderBy(""),
		"limit -1 is negative":                 repo.Limit(-1),
		"offset -1 is negative":                repo.Offset(-1),
		"a query option is nil":                nil,
		"a filter is nil":                      repo.And(nil),
		"can't be compared":                    repo.Lt("age", nil),
		"one of SkipLocked and NoWait":         repo.ForUpdate(repo.SkipLocked, repo.NoWait),
		"has a semicolon":                      repo.Where("true; drop table users"),
		"closes a parenthesis":                 repo.Where("true) or (true"),
		"opens a parenthesis":                  repo.Where("(true"),
		"string, quoted name or comment":       repo.Where("email = 'x"),
		"fragment \"/* x\"":                    repo.Where("/* x"),
		"fragment \"$$ x\"":                    repo.Where("$$ x"),
		"fragment \"a\\x00\"":                  repo.Where("a\x00"),
		"is empty":                             repo.Where(" -- nothing"),
		"the placeholder $2 and 1 arguments":   repo.Where("age = $2", 1),
		"the placeholder $0":                   repo.Where("age = $0", 1),
		"doesn't use argument $2":              repo.Where("age = $1", 1, 2),
		"no argument for @age":                 repo.Where("age = @age", pgx.NamedArgs{}),
		"doesn't use argument @other":          repo.Where("age = @age", pgx.NamedArgs{"age": 1, "other": 2}),
		"and named arguments: use one kind":    repo.Where("age = $1", pgx.NamedArgs{"age": 1}),
		"can't be the value of a column":       repo.Eq("age", pgx.QueryExecModeSimpleProtocol),
		"the placeholder $3 and 2 arguments":   repo.Expr(sqlizer{sql: "? = ? or ?", args: []any{1, 2}}),
	} {
		if filter, ok := opt.(repo.Filter); ok {
			require.ErrorIs(t, second(users.Count(ctx, filter)), repo.ErrQuery, want)
		}
		for _, err := range []error{
			second(users.Find(ctx, opt)), second(users.First(ctx, opt)), second(users.Get(ctx, uuid.New(), opt)),
		} {
			require.ErrorIs(t, err, repo.ErrQuery, want)
			require.ErrorContains(t, err, want)
		}
	}
	_, err := users.Find(ctx, repo.Expr(sqlizer{err: boom}))
	require.ErrorIs(t, err, boom)
}

// second returns the error of a call with two results.
func second[V any](_ V, err error) error { return err }

func TestFind_OrderLimitAndOffset(t *testing.T) {
	t.Parallel()
	_, users := newUsers(t)
	ctx := t.Context()
	require.NoError(t, users.CreateMany(ctx, []User{
		{Email: "a", Age: 1, Name: new("z")}, {Email: "b", Age: 1}, {Email: "c", Age: 2, Name: new("y")},
	}))
	for _, c := range []struct {
		opts []repo.QueryOption
		want []string
	}{
		{[]repo.QueryOption{repo.Desc("age"), repo.Asc("email")}, []string{"c", "a", "b"}},
		{[]repo.QueryOption{repo.OrderBy("age DESC", "email")}, []string{"c", "a", "b"}},
		{[]repo.QueryOption{repo.Asc("name")}, []string{"c", "a", "b"}},
		{[]repo.QueryOption{repo.Asc("name").NullsFirst()}, []string{"b", "c", "a"}},
		{[]repo.QueryOption{repo.Desc("name").NullsLast()}, []string{"a", "c", "b"}},
		{[]repo.QueryOption{repo.OrderBy("name desc nulls  LAST")}, []string{"a", "c", "b"}},
		{[]repo.QueryOption{repo.OrderBy("name nulls first")}, []string{"b", "c", "a"}},
		{[]repo.QueryOption{repo.Asc("email"), repo.Limit(2)}, []string{"a", "b"}},
		{[]repo.QueryOption{repo.Asc("email"), repo.Offset(1), repo.Limit(1)}, []string{"b"}},
		{[]repo.QueryOption{repo.Limit(0)}, []string{}},
	} {
		found, err := users.Find(ctx, c.opts...)
		require.NoError(t, err)
		assert.Equal(t, c.want, emails(found))
	}
	first, err := users.First(ctx, repo.Desc("email"))
	require.NoError(t, err)
	assert.Equal(t, "c", first.Email)
	_, err = users.First(ctx, repo.Eq("email", "missing"))
	require.ErrorIs(t, err, repo.ErrNotFound)
	require.EqualError(t, err, "repo: no such row in users")
}

func TestStatements_AreStableAcrossArguments(t *testing.T) {
	t.Parallel()
	count := &counter{}
	m := managerOf(t, newDB(t, tracer(count)), usersDDL)
	users := newRepo[User, uuid.UUID](t, m, "users")
	ctx := t.Context()
	statements := map[string]bool{}
	require.NoError(t, second(repo.CheckSchema(ctx, m, users.Model()))) // reads the columns
	count.drain()
	for n := range 5 {
		_, err := users.Find(ctx, repo.In("age", make([]int, n)...), repo.Eq("email", time.Now().String()), repo.Limit(n), repo.Offset(n))
		require.NoError(t, err)
		require.NoError(t, users.Create(ctx, &User{Email: uuid.NewString()}))
	}
	for _, statement := range count.drain() {
		statements[statement] = true
		assert.NotContains(t, statement, "*")
	}
	assert.Len(t, statements, 2)
}

func TestForUpdate_LocksRows(t *testing.T) {
	t.Parallel()
	m, users := newUsers(t)
	ctx := t.Context()
	create(t, users, "a", "b", "c")
	require.NoError(t, m.Do(ctx, func(tx1 context.Context) error {
		mine, err := users.First(tx1, repo.Asc("age"), repo.ForUpdate(repo.SkipLocked))
		require.NoError(t, err)
		assert.Equal(t, "a", mine.Email)
		return m.Do(ctx, func(tx2 context.Context) error {
			others, err := users.Find(tx2, repo.Asc("age"), repo.ForUpdate(repo.SkipLocked))
			require.NoError(t, err)
			assert.Equal(t, []string{"b", "c"}, emails(others))
			_, err = users.Get(t.Context(), mine.ID, repo.ForUpdate(repo.NoWait))
			require.ErrorContains(t, err, "55P03")
			return nil
		})
	}))
}

func TestFilter_ExcludesOrdersLimitsAndLocks(t *testing.T) {
	t.Parallel()
	for name, opt := range map[string]repo.QueryOption{
		"Asc": repo.Asc("id"), "OrderBy": repo.OrderBy("id"), "Limit": repo.Limit(1), "Offset": repo.Offset(1),
		"ForUpdate": repo.ForUpdate(), "ForShare": repo.ForShare(), "WithTotal": repo.WithTotal(),
	} {
		_, filter := opt.(repo.Filter)
		assert.False(t, filter, "Count(%s) must not compile", name)
	}
	_, users := newUsers(t)
	for name, scope := range map[string]repo.Filter{
		"WithDeleted": repo.WithDeleted(), "OnlyDeleted": repo.OnlyDeleted(), "AllRows": repo.AllRows(),
	} {
		_, err := users.Count(t.Context(), repo.Eq("age", 1), scope)
		require.NoError(t, err)
		for _, nested := range []repo.Filter{repo.And(scope), repo.Or(scope), repo.Not(scope)} {
			_, err := users.Count(t.Context(), nested)
			require.ErrorIs(t, err, repo.ErrQuery)
			require.ErrorContains(t, err, name+" can't be part of And, Or or Not")
		}
	}
}

package repo_test

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/internal/sqltext"
	"github.com/rdsfx-go/rdsfx/repo"
)

// FuzzFragment compares the lexer with the server's. A filter follows each accepted fragment, and the server must parse it. It
// would not if a string, comment or parenthesis of the fragment continued beyond its end.
func FuzzFragment(f *testing.F) {
	for _, seed := range []string{
		"true", "$1 = 1", "'$1' = 'x'", "(true", "true) or (true", "true -- x", "/* /* */ true */ true", "$$ $1 $$ = ''", "$a$ ' $a$ = ''",
		`E'\'' = ''`, `'\' = ''`, `"a""b" = 1`, "1::int = 1", "a$1 = 1", "array[1][1] = 1", "1=1;", "e'a'\n'b\\'' = ''",
		"$1::text = @x", "a <@ b",
		"x ? 'y'", "U&'\\0041' = 'A'", "1e'a", "$1$1", "--\ntrue", "true--", "'a'/*'*/", "n'x' = ''", "b'1' = x'1'", "$é$ ' $é$ = ''",
		"a-$1", "!=-1",
	} {
		f.Add(seed)
	}
	model, err := repo.ModelOf[Tag, string]("tags")
	require.NoError(f, err)
	conn, err := pgx.Connect(f.Context(), fxtest.URL(f))
	require.NoError(f, err)
	f.Cleanup(func() { _ = conn.Close(context.Background()) })
	f.Fuzz(func(t *testing.T, sql string) {
		text, args, err := repo.Render(model, repo.Where(sql, "one"), repo.Eq("name", "two"))
		if err != nil {
			require.ErrorIs(t, err, repo.ErrQuery)
			return
		}
		require.Equal(t, []any{"one", "two"}, args)
		require.True(t, strings.HasSuffix(text, ` and "name" = $2`), text)
		ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
		defer cancel()
		// The statement ends with a syntax error. If the server reports another error or none, the fragment has hidden it.
		_, err = conn.Prepare(ctx, "", text+" ]")
		if err == nil {
			t.Fatalf("the fragment hides the text after it: %s", text)
		}
		if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "42601" &&
			(strings.Contains(pg.Message, "at end of input") || strings.Contains(pg.Message, "unterminated")) {
			t.Fatalf("the fragment hides the text after it: %s: %s", text, pg.Message)
		}
	})
}

// FuzzFilters combines filters as the input determines and compares the arguments with the placeholders.
func FuzzFilters(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, "x")
	f.Add([]byte{9, 9, 10, 11, 0, 0}, "'; drop table tags; --")
	model, err := repo.ModelOf[Tag, string]("tags")
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, plan []byte, value string) {
		filter := combine(&plan, value, 0)
		text, args, err := repo.Render(model, filter, repo.Eq("name", value))
		require.NoError(t, err)
		if len(value) > 8 { // long enough not to occur in the statement otherwise
			require.NotContains(t, text, value)
		}
		again, argsAgain, err := repo.Render(model, filter, repo.Eq("name", value))
		require.NoError(t, err)
		require.Equal(t, text, again)
		require.Equal(t, args, argsAgain)
		seen, depth := 0, 0
		lexer := sqltext.NewLexer(text)
		for token, ok := lexer.Next(); ok; token, ok = lexer.Next() {
			switch {
			case token.Kind == sqltext.Parameter:
				seen++
			case token.Text == "(":
				depth++
			case token.Text == ")":
				depth--
			}
			require.GreaterOrEqual(t, depth, 0)
		}
		require.Zero(t, depth)
		require.GreaterOrEqual(t, seen, len(args))
	})
}

func combine(plan *[]byte, value string, depth int) repo.Filter {
	if len(*plan) == 0 || depth > 20 {
		return repo.Eq("name", value)
	}
	op := (*plan)[0]
	*plan = (*plan)[1:]
	next := func() repo.Filter { return combine(plan, value, depth+1) }
	switch op % 12 {
	case 0:
		return repo.NotEq("name", value)
	case 1:
		return repo.In("name", value, value)
	case 2:
		return repo.NotIn[string]("name")
	case 3:
		return repo.Contains("name", value)
	case 4:
		return repo.IsNull("name")
	case 5:
		return repo.Where("name = $2 or name = $1 -- $3", value, value)
	case 6:
		return repo.Where("name = @a or '@b' = @a", pgx.NamedArgs{"a": value})
	case 7:
		return repo.And()
	case 8:
		return repo.Or()
	case 9:
		return repo.And(next(), next())
	case 10:
		return repo.Or(next(), next(), next())
	default:
		return repo.Not(next())
	}
}

// FuzzTag compares the parsed column name with scany's. No tag may make the model compiler panic.
func FuzzTag(f *testing.F) {
	for _, seed := range []string{"id,pk", "", ",", "-", "a,b", "id,pk,default", "x,json,json", "a b", "\x00", strings.Repeat("x", 64), "é"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, tag string) {
		if name, ok := repo.ParseTag(tag); ok {
			before, _, _ := strings.Cut(tag, ",")
			require.Equal(t, before, name)
		}
		if strings.ContainsAny(tag, "\"\\`\n") {
			return
		}
		for _, typ := range []reflect.Type{
			reflect.TypeFor[int](), reflect.TypeFor[Address](), reflect.TypeFor[*time.Time](), reflect.TypeFor[map[string]int](),
		} {
			_ = repo.CompileType(reflect.StructOf([]reflect.StructField{{Name: "F", Type: typ, Tag: reflect.StructTag(`db:"` + tag + `"`)}}))
		}
	})
}

// FuzzCursor passes damaged cursors to Page, which must reject all but its own before it sends a statement.
func FuzzCursor(f *testing.F) {
	f.Add("", 0, byte(0))
	f.Add("AAAA", 3, byte(1))
	f.Add("x", 20, byte(255))
	_, users := newUsers(f)
	create(f, users, "a", "b")
	order := []repo.QueryOption{repo.Asc("name"), repo.Desc("created_at")}
	page, err := users.Page(f.Context(), "", 1, order...)
	require.NoError(f, err)
	good := page.Next
	f.Fuzz(func(t *testing.T, raw string, at int, flip byte) {
		damaged := []byte(good)
		damaged[max(at, -at-1)%len(damaged)] ^= flip
		for _, cursor := range []string{raw, string(damaged)} {
			_, err := users.Page(t.Context(), cursor, 1, order...)
			if err != nil {
				require.ErrorIs(t, err, repo.ErrQuery)
				continue
			}
			require.Contains(t, []string{"", good}, cursor)
		}
	})
}

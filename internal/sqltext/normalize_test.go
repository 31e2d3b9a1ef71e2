package sqltext_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"

	"github.com/rdsfx-go/rdsfx/internal/sqltext"
)

func normalize(sql string) string { return string(sqltext.Normalize(nil, sql)) }

func TestNormalize_ReplacesValues(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ sql, want string }{
		"empty":                    {"", ""},
		"white space":              {"\n\tselect  *\r\n from\tt ; \n", "select * from t"},
		"nothing but a comment":    {"-- nothing", ""},
		"comments":                 {"select /* a /* nested */ one */ a -- and this\n, b", "select a , b"},
		"open comment":             {"select a /* and", "select a"},
		"string":                   {"select 'it''s' || 'x'", "select ? || ?"},
		"open string":              {"select 'secret", "select ?"},
		"escapes":                  {`select E'it\'s', e'\\' , 'a\', b`, `select ?, ? , ?, b`},
		"bits and national":        {"select B'01', x'1F', N'n', U&'d\\0061t'", "select ?, ?, ?, U&?"},
		"dollar quotes":            {"select $$it's$$, $a$ $$ $b$ $a$, f$x", "select ?, ?, f$x"},
		"open dollar quote":        {"do $body$ secret", "do ?"},
		"numbers":                  {"select 1, 1.5, .5, 1e10, 1E-5, 0x1F, 1_000, -7, t1.c2", "select ?, ?, ?, ?, ?, ?, ?, -?, t1.c2"},
		"operators between":        {"select 1+2, 1-2, a->'b'->>3, a ? 'k'", "select ?+?, ?-?, a->?->>?, a ? ?"},
		"parameters":               {"select * from t where a = $1 and b = $12", "select * from t where a = ? and b = ?"},
		"casts":                    {"select $1::int, '2'::numeric(10,2)", "select ?::int, ?::numeric(?,?)"},
		"quoted names":             {`select "a ""b'1" from "t"`, `select "a ""b'1" from "t"`},
		"other alphabets":          {"select größe from 表 where x = 'ü'", "select größe from 表 where x = ?"},
		"in":                       {"delete from t where id in (1,2, 3) and a in ('x')", "delete from t where id in (…) and a in (…)"},
		"in with parameters":       {"select 1 WHERE id IN ($1, $2::int, -3, +4, null, TRUE)", "select ? WHERE id IN (…)"},
		"in with rows":             {"select 1 where (a, b) in (($1, $2), ($3, $4))", "select ? where (a, b) in (…)"},
		"in with something else":   {"select 1 where a in (1, b) and c in (select 2) and d in ()", "select ? where a in (?, b) and c in (select ?) and d in ()"},
		"in with a function":       {"select 1 where a in (lower('x'), 'y')", "select ? where a in (lower(?), ?)"},
		"array":                    {"select array[1,2], ARRAY[[1,2],[3,4]], a[1], array[b]", "select array[…], ARRAY[…], a[?], array[b]"},
		"values":                   {"insert into t (a, b) values ($1, $2), ($3, $4),\n($5, $6) returning id", "insert into t (a, b) values (?, ?), … returning id"},
		"one row of values":        {"insert into t values (1, now()) on conflict do nothing", "insert into t values (?, now()) on conflict do nothing"},
		"values with calls":        {"insert into t values (f(1, (2)), '('), (f(3), ')')", "insert into t values (f(?, (?)), ?), …"},
		"values to join with":      {"select * from (values (1, 'a'), (2, 'b')) v (x, y), u where x in (1)", "select * from (values (?, ?), …) v (x, y), u where x in (…)"},
		"open row":                 {"insert into t values (1, 2), (3, 'secr", "insert into t values (?, ?), …"},
		"values in a subselect":    {"insert into t values ((select max(a) from (values (1), (2)) v)), (4)", "insert into t values ((select max(a) from (values (?), (?)) v)), …"},
		"a password":               {"alter role app password 'hunter2'", "alter role app password ?"},
		"a normalized text":        {"select a from b values (?), …", "select a from b values (?), …"},
		"a comma that ends values": {"values (1), x", "values (?), x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, test.want, normalize(test.sql))
		})
	}
}

func TestNormalize_CutsLongTexts(t *testing.T) {
	t.Parallel()
	long := normalize("select " + strings.Repeat("größe, ", 10_000))
	assert.LessOrEqual(t, len(long), 2051)
	assert.True(t, utf8.ValidString(long))
	assert.True(t, strings.HasSuffix(long, "…"))
	assert.Equal(t, "insert into t values (?), …", normalize("insert into t values (1)"+strings.Repeat(", (2)", 1000)))
	huge := "insert into t values (1)" + strings.Repeat(", (2)", 100_000) + " returning x"
	assert.Equal(t, "insert into t values (?), ……", normalize(huge), "the end is not read")
	assert.Equal(t, "select ?…", normalize("select '"+strings.Repeat("secret", 10_000)))
}

func FuzzNormalize(f *testing.F) {
	for _, sql := range []string{
		"select 1", "insert into t values (1, $2), ('a', E'\\'b')", "a in (1, null) -- x", "/* /* */ */ $tag$ x $tag$",
		`"q""q"`, "array[[1],[2]]",
	} {
		f.Add(sql)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		once := normalize(sql)
		if len(once) > 2051 {
			t.Fatalf("%d bytes", len(once))
		}
		if strings.ContainsRune(sql, '…') || len(sql) > 1000 {
			return
		}
		if twice := normalize(once); strings.TrimSpace(twice) != strings.TrimSpace(once) {
			t.Fatalf("%q becomes %q and then %q", sql, once, twice)
		}
	})
}

package sqltext_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/rdsfx-go/rdsfx/internal/sqltext"
)

func TestLexer_SplitsAsPostgreSQLDoes(t *testing.T) {
	t.Parallel()
	const (
		word, identifier, str, number, param = sqltext.Word, sqltext.Identifier, sqltext.String, sqltext.Number, sqltext.Parameter
		operator, symbol, space, comment     = sqltext.Operator, sqltext.Symbol, sqltext.Space, sqltext.Comment
	)
	type kinds []sqltext.Kind
	for name, test := range map[string]struct {
		sql   string
		split []string
		kinds kinds
	}{
		"words and numbers": {"a$1 é_2 1e-5 .5", []string{"a$1", " ", "é_2", " ", "1e-5", " ", ".5"}, kinds{word, space, word, space, number, space, number}},
		"doubled quotes":    {`'a''b' "c""d"`, []string{`'a''b'`, " ", `"c""d"`}, kinds{str, space, identifier}},
		"prefixed strings":  {`B'1'x'f'n'a'E'\''`, []string{"B'1'", "x'f'", "n'a'", `E'\''`}, kinds{str, str, str, str}},
		"backslash without prefix": {
			`'\'a`, []string{`'\'`, "a"}, kinds{str, word},
		},
		"continued string with escapes": {
			"E'a' -- b\n 'c\\'d'", []string{"E'a' -- b\n 'c\\'d'"}, kinds{str},
		},
		"string with escapes on one line": {`E'a' 'b\'`, []string{`E'a'`, " ", `'b\'`}, kinds{str, space, str}},
		"dollar quotes":                   {"$$a$b$$ $t$ $$ $t$", []string{"$$a$b$$", " ", "$t$ $$ $t$"}, kinds{str, space, str}},
		"dollar signs":                    {"$1$2 $ $a", []string{"$1", "$2", " ", "$", " ", "$", "a"}, kinds{param, param, space, symbol, space, symbol, word}},
		"comments":                        {"a--b\n/*/**/*/c", []string{"a", "--b", "\n", "/*/**/*/", "c"}, kinds{word, comment, space, comment, word}},
		"operators":                       {"a->>b <@c?|d=-1", []string{"a", "->>", "b", " ", "<@", "c", "?|", "d", "=-", "1"}, kinds{word, operator, word, space, operator, word, operator, word, operator, number}},
		"operators before comments":       {"1+--\n2*/**/3", []string{"1", "+", "--", "\n", "2", "*", "/**/", "3"}, kinds{number, operator, comment, space, number, operator, comment, number}},
		"symbols":                         {"(a::b[1],c.d);", []string{"(", "a", ":", ":", "b", "[", "1", "]", ",", "c", ".", "d", ")", ";"}, kinds{symbol, word, symbol, symbol, word, symbol, number, symbol, symbol, word, symbol, word, symbol, symbol}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var split []string
			var kinds kinds
			lexer := sqltext.NewLexer(test.sql)
			for token, ok := lexer.Next(); ok; token, ok = lexer.Next() {
				assert.False(t, token.Unterminated, token.Text)
				split, kinds = append(split, token.Text), append(kinds, token.Kind)
			}
			assert.Equal(t, test.split, split)
			assert.Equal(t, test.kinds, kinds)
		})
	}
}

func TestLexer_ReportsUnterminatedTokens(t *testing.T) {
	t.Parallel()
	for _, sql := range []string{"'a", `"a`, "/* /* */", "$$a", "$a$ $$", `E'a\'`, `E'a\`, "E'a'\n'b"} {
		lexer := sqltext.NewLexer(sql)
		token, ok := lexer.Next()
		assert.True(t, ok)
		assert.True(t, token.Unterminated, sql)
		assert.Equal(t, sql, token.Text)
	}
}

func FuzzLexer(f *testing.F) {
	for _, sql := range []string{"select 1", "E'\\''$1$a$b$a$", `/* -- */ "x" @> ?| 'y'`, "E'a'--\n'\\'"} {
		f.Add(sql)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		var all strings.Builder
		lexer := sqltext.NewLexer(sql)
		for token, ok := lexer.Next(); ok; token, ok = lexer.Next() {
			if token.Text == "" || token.Pos != all.Len() || token.Kind == 0 {
				t.Fatalf("%+v at %d", token, all.Len())
			}
			all.WriteString(token.Text)
			if token.Unterminated && all.Len() < len(sql) {
				t.Fatalf("%+v is not the last token", token)
			}
		}
		if all.String() != sql {
			t.Fatalf("%q instead of %q", all.String(), sql)
		}
	})
}

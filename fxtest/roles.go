package fxtest

import (
	"strings"

	"github.com/rdsfx-go/rdsfx/internal/sqltext"
)

// keepRoles returns a script whose CREATE ROLE and CREATE USER statements leave a role as it is if it exists. Roles belong to the
// server, so the migrations of another template may have created it.
func keepRoles(script string) string {
	if !strings.Contains(strings.ToLower(script), "create") {
		return script
	}
	var b strings.Builder
	var words []string
	copied, begin, open := 0, -1, false
	finish := func(end int) {
		if createsRole(words) {
			// The statement goes into a string, because the body of DO could contain its quotes.
			statement := strings.ReplaceAll(script[begin:end], "'", "''")
			b.WriteString(script[copied:begin])
			b.WriteString("do $rdsfx$ begin execute '" + statement + "'; exception when duplicate_object or unique_violation then null; end $rdsfx$")
			copied = end
		}
		words, begin, open = nil, -1, false
	}
	lexer := sqltext.NewLexer(script)
	for token, ok := lexer.Next(); ok; token, ok = lexer.Next() {
		switch {
		case token.Kind == sqltext.Space, token.Kind == sqltext.Comment:
			continue
		case token.Kind == sqltext.Symbol && token.Text == ";":
			finish(token.Pos)
			continue
		case !open:
			begin, open = token.Pos, true
		}
		if token.Kind == sqltext.Word {
			words = append(words, strings.ToLower(token.Text))
		} else {
			words = append(words, "")
		}
	}
	finish(len(script))
	return b.String() + script[copied:]
}

func createsRole(words []string) bool {
	const need = 3 // create role name
	if len(words) < need || words[0] != "create" {
		return false
	}
	switch words[1] {
	case "role", "group":
		return true
	case "user":
		return words[2] != "mapping"
	}
	return false
}

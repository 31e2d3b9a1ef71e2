package faults

import (
	"strings"

	"github.com/rdsfx-go/rdsfx/internal/sqltext"
)

// commits reports whether a statement of the script is COMMIT or END, but not COMMIT PREPARED.
func commits(script string) bool {
	lexer := sqltext.NewLexer(script)
	position := 0 // of the token in its statement
	commit := false
	for {
		token, ok := lexer.Next()
		switch {
		case !ok:
			return commit
		case token.Kind == sqltext.Space || token.Kind == sqltext.Comment:
			continue
		case token.Text == ";" && commit:
			return true
		case token.Text == ";":
			position = 0
			continue
		}
		position++
		switch {
		case position == 1:
			commit = strings.EqualFold(token.Text, "commit") || strings.EqualFold(token.Text, "end")
		case position == 2 && commit:
			if !strings.EqualFold(token.Text, "prepared") {
				return true
			}
			commit = false
		}
	}
}

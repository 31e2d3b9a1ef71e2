package sqltext

import (
	"fmt"
	"strings"
)

// RemovePsqlCommands returns a script with the psql commands removed that pg_dump writes and that have no meaning for the server:
// \restrict and \unrestrict. Lines and offsets stay as they are. The error names another command of psql, or a COPY whose rows follow
// in the script, with its line.
func RemovePsqlCommands(script string) (string, error) {
	if !strings.Contains(script, "\\") && !containsStdin(script) {
		return script, nil
	}
	var words []string // of the current statement
	var begin int
	cleaned := []byte(script)
	lexer := NewLexer(script)
	for token, ok := lexer.Next(); ok; token, ok = lexer.Next() {
		switch {
		case token.Kind == Space, token.Kind == Comment:
		case token.Kind == Word:
			if len(words) == 0 {
				begin = token.Pos
			}
			words = append(words, strings.ToLower(token.Text))
		case token.Kind == Symbol && token.Text == ";":
			if copiesFromStdin(words) {
				return "", fmt.Errorf("line %d: COPY FROM stdin needs psql, because its rows follow in the script: use INSERT (pg_dump --inserts)", lineOf(script, begin))
			}
			words = nil
		case token.Kind == Symbol && token.Text == `\` && startsLine(script, token.Pos):
			line, _, _ := strings.Cut(script[token.Pos:], "\n")
			if command, _, _ := strings.Cut(strings.TrimSpace(line), " "); !hasNoMeaning(command) {
				return "", fmt.Errorf("line %d: %s is a command of psql and not SQL: remove it", lineOf(script, token.Pos), command)
			}
			lexer.pos = token.Pos + len(line)
			copy(cleaned[token.Pos:lexer.pos], strings.Repeat(" ", len(line)))
		default:
			words = append(words, "") // a statement does not begin here
		}
	}
	return string(cleaned), nil
}

// hasNoMeaning reports whether a command of psql has no meaning for the server.
func hasNoMeaning(command string) bool { return command == `\restrict` || command == `\unrestrict` }

func containsStdin(script string) bool { return strings.Contains(strings.ToLower(script), "stdin") }

func copiesFromStdin(words []string) bool {
	if len(words) == 0 || words[0] != "copy" {
		return false
	}
	for i := 1; i < len(words); i++ {
		if words[i-1] == "from" && words[i] == "stdin" {
			return true
		}
	}
	return false
}

// startsLine reports whether only white space stands before an offset in its line.
func startsLine(text string, pos int) bool {
	return strings.TrimSpace(text[strings.LastIndexByte(text[:pos], '\n')+1:pos]) == ""
}

func lineOf(text string, pos int) int { return 1 + strings.Count(text[:pos], "\n") }

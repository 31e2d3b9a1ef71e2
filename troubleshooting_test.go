package rdsfx_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// foreignMessages are the parts of messages in docs/troubleshooting.md that come from elsewhere.
var foreignMessages = []string{
	// PostgreSQL
	"no pg_hba.conf entry for host", "no encryption", "PAM authentication failed for user", "canceling statement due to user request",
	"cached plan must not change result type",
	// Go and pgx
	"certificate signed by unknown authority", "context deadline exceeded",
	// Fx
	"missing type", "cannot provide", "already provided by",
}

// assembledMessages are parts of messages that are assembled from several literals.
var assembledMessages = map[string][]string{
	"invalid config": {"pgfx: invalid ", "config"},
	"blocked by PID": {"blocked by ", "PID "},
	"timed out waiting for connections in use":              {"timed out", " waiting for connections in use"},
	"timed out waiting for released connections to end":     {"timed out", " waiting for released connections to end"},
	"timed out waiting for background work":                 {"timed out", " waiting for background work"},
	"UpdateWhere without a filter would write every row":    {"UpdateWhere", " without a filter would write every row"},
	"Lock needs a transaction":                              {"Lock", " needs a transaction"},
	"can't join a transaction with another isolation level": {"can't join a transaction with another ", "isolation level"},
	"can't be sent as type":                                 {"can't be sent as "},
	"the server refused the value for column":               {"the server refused "},
}

// quotedMessage matches a block of text in docs/troubleshooting.md.
var quotedMessage = regexp.MustCompile("(?s)```text\n(.*?)```")

// TestTroubleshooting_QuotesMessagesOfTheSource finds the constant parts of each quoted message in the literals of the library.
func TestTroubleshooting_QuotesMessagesOfTheSource(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("docs/troubleshooting.md")
	require.NoError(t, err)
	source := strings.Join(append(sourceTexts(t), foreignMessages...), "\n")
	messages := quotedMessage.FindAllStringSubmatch(string(page), -1)
	require.Greater(t, len(messages), 20)
	variable := regexp.MustCompile(`SQLSTATE \S*|\*\S*|…|"|[{}()\[\]]|: |; |, |\n|\$\S*|[.:;,] *$`)
	for _, message := range messages {
		for _, part := range variable.Split(message[1], -1) {
			if part = strings.Trim(part, " :;,."); !strings.Contains(part, " ") {
				continue
			}
			literals, assembled := assembledMessages[part]
			if !assembled {
				literals = []string{part}
			}
			for _, literal := range literals {
				if !strings.Contains(source, literal) { // assert.Contains would print all of the source
					t.Errorf("%q is in no message of the library:\n%s", literal, message[1])
				}
			}
		}
	}
}

// sourceTexts returns the string literals of the library, concatenated ones as one.
func sourceTexts(t *testing.T) (literals []string) {
	t.Helper()
	var text func(e ast.Expr) (string, bool)
	text = func(e ast.Expr) (string, bool) {
		switch e := e.(type) {
		case *ast.BasicLit:
			value, err := strconv.Unquote(e.Value)
			return value, err == nil && e.Kind == token.STRING
		case *ast.BinaryExpr:
			left, isText := text(e.X)
			right, isTextToo := text(e.Y)
			return left + right, e.Op == token.ADD && (isText || isTextToo)
		}
		return "", false
	}
	require.NoError(t, filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && slices.Contains([]string{"examples", "benchmarks", "ormtest", "tools", ".git"}, path) {
			return filepath.SkipDir
		}
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(node ast.Node) bool {
			expression, ok := node.(ast.Expr)
			if !ok {
				return true
			}
			value, ok := text(expression)
			if ok {
				literals = append(literals, value)
			}
			return !ok
		})
		return nil
	}))
	return literals
}

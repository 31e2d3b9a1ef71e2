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

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// logMessage is a log call in the source.
type logMessage struct {
	text, level string
	fields      []string // keys of the fields that are arguments of the call
	at          string
}

// logCalls are the functions that log, with the level of each and the positions of its messages.
var logCalls = map[string]struct {
	level    string
	messages []int
}{
	"Debug": {"debug", []int{0}}, "Info": {"info", []int{0}}, "Warn": {"warn", []int{0}}, "Error": {"error", []int{0}}, "Check": {"debug", []int{1}},
	"logError": {"error", []int{0}}, "warn": {"warn", []int{0}}, "warnOnce": {"warn", []int{0}}, "NewLeaseLimit": {"warn", []int{2, 3}},
}

// computedMessages are messages that are no constants at the call, by the text of the argument.
var computedMessages = map[string]string{
	"stateMessages[t.To]": "the map stateMessages", "message": "an argument of the function",
	"l.exceeded": "NewLeaseLimit", "l.ended": "NewLeaseLimit",
	"exceeded": "NewLeaseLimit", "ended": "NewLeaseLimit",
}

// sourceLogs returns the log calls of the library.
func sourceLogs(t *testing.T) []logMessage {
	t.Helper()
	var all []logMessage
	packages := map[string][]*ast.File{}
	fset := token.NewFileSet()
	require.NoError(t, filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if entry.IsDir() && slices.Contains([]string{"examples", "benchmarks", "fxtest", "ormtest", "tools", ".git"}, path) {
			return filepath.SkipDir
		}
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err == nil {
			packages[filepath.Dir(path)] = append(packages[filepath.Dir(path)], file)
		}
		return err
	}))
	for _, files := range packages {
		constants := constantsOf(files)
		for _, file := range files {
			if !strings.Contains(importsOf(file), `"go.uber.org/zap"`) {
				continue
			}
			ast.Inspect(file, func(node ast.Node) bool {
				switch node := node.(type) {
				case *ast.CallExpr:
					all = append(all, logged(t, fset, node, constants)...)
				case *ast.ValueSpec:
					all = append(all, stateMessages(fset, node)...)
				}
				return true
			})
		}
	}
	return all
}

func importsOf(file *ast.File) string {
	var paths []string
	for _, spec := range file.Imports {
		paths = append(paths, spec.Path.Value)
	}
	return strings.Join(paths, " ")
}

// constantsOf returns the string constants of a package.
func constantsOf(files []*ast.File) map[string]string {
	constants := map[string]string{}
	for range 2 { // a constant may be made of another
		for _, file := range files {
			ast.Inspect(file, func(node ast.Node) bool {
				if spec, ok := node.(*ast.ValueSpec); ok && len(spec.Values) == len(spec.Names) {
					for i, name := range spec.Names {
						if text, ok := textOf(spec.Values[i], constants); ok {
							constants[name.Name] = text
						}
					}
				}
				return true
			})
		}
	}
	return constants
}

// textOf returns the value of a constant expression.
func textOf(expr ast.Expr, constants map[string]string) (string, bool) {
	switch expr := expr.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(expr.Value)
		return text, err == nil && expr.Kind == token.STRING
	case *ast.Ident:
		text, ok := constants[expr.Name]
		return text, ok
	case *ast.BinaryExpr:
		left, ok := textOf(expr.X, constants)
		right, also := textOf(expr.Y, constants)
		return left + right, ok && also
	}
	return "", false
}

// logged returns the messages of a call, none if it does not log.
func logged(t *testing.T, fset *token.FileSet, call *ast.CallExpr, constants map[string]string) []logMessage {
	t.Helper()
	name := ""
	switch fun := call.Fun.(type) {
	case *ast.SelectorExpr:
		name = fun.Sel.Name
		if pkg, ok := fun.X.(*ast.Ident); ok && (pkg.Name == "zap" || pkg.Name == "fx" || pkg.Name == "http") {
			return nil
		}
	case *ast.Ident:
		name = fun.Name
	}
	how, ok := logCalls[name]
	var messages []logMessage
	for i, position := range how.messages {
		if !ok || position >= len(call.Args) {
			continue
		}
		text, constant := textOf(call.Args[position], constants)
		at := fset.Position(call.Pos()).String()
		if !constant {
			_, known := computedMessages[sourceOf(call.Args[position])]
			assert.True(t, known, "%s: make the message a constant, or add it to computedMessages: %s", at, sourceOf(call.Args[position]))
			continue
		}
		level := how.level
		if i == 1 { // the end of a lease
			level = "info"
		}
		messages = append(messages, logMessage{text, level, fieldsOf(call.Args[position+1:]), at})
	}
	return messages
}

// sourceOf returns the text of a short expression.
func sourceOf(expr ast.Expr) string {
	switch expr := expr.(type) {
	case *ast.Ident:
		return expr.Name
	case *ast.SelectorExpr:
		return sourceOf(expr.X) + "." + expr.Sel.Name
	case *ast.IndexExpr:
		return sourceOf(expr.X) + "[" + sourceOf(expr.Index) + "]"
	}
	return "?"
}

// fieldsOf returns the keys of zap's fields among the arguments.
func fieldsOf(args []ast.Expr) []string {
	var keys []string
	for _, arg := range args {
		call, ok := arg.(*ast.CallExpr)
		if !ok {
			continue
		}
		fun, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || sourceOf(fun.X) != "zap" {
			continue
		}
		if fun.Sel.Name == "Error" {
			keys = append(keys, "error")
		} else if key, ok := textOf(call.Args[0], nil); ok {
			keys = append(keys, key)
		}
	}
	return keys
}

// stateMessages returns the messages of the health monitor.
func stateMessages(fset *token.FileSet, spec *ast.ValueSpec) []logMessage {
	if spec.Names[0].Name != "stateMessages" {
		return nil
	}
	levels := map[string]string{"Degraded": "warn", "ReadOnly": "warn", "Switching": "warn", "Down": "error"}
	var messages []logMessage
	for _, element := range spec.Values[0].(*ast.CompositeLit).Elts {
		pair := element.(*ast.KeyValueExpr)
		text, _ := textOf(pair.Value, nil)
		level := levels[sourceOf(pair.Key)]
		if level == "" {
			level = "info"
		}
		messages = append(messages, logMessage{text: text, level: level, at: fset.Position(pair.Pos()).String()})
	}
	return messages
}

// documentedLogs returns the rows of the catalogue by level and message.
func documentedLogs(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("docs/observability.md")
	require.NoError(t, err)
	rows := map[string]string{}
	pattern := regexp.MustCompile("(?m)^\\| (debug|info|warn|error) \\| `([^`]+)` \\| (.*)$")
	for _, row := range pattern.FindAllStringSubmatch(string(text), -1) {
		rows[row[1]+" "+row[2]] = row[3]
	}
	return rows
}

func TestLogs_EveryMessageIsInTheCatalogue(t *testing.T) {
	t.Parallel()
	documented, seen := documentedLogs(t), map[string]bool{}
	for _, message := range sourceLogs(t) {
		key := message.level + " " + message.text
		row, ok := documented[key]
		if !assert.True(t, ok, "%s: add a row to docs/observability.md: | %s | `%s` | %s |", message.at, message.level, message.text,
			strings.Join(message.fields, ", ")) {
			continue
		}
		seen[key] = true
		for _, field := range message.fields {
			assert.Contains(t, row, "`"+field+"`", "%s: document the field in the row of %q", message.at, message.text)
		}
	}
	for key := range documented {
		assert.True(t, seen[key], "docs/observability.md: no log call of the library has the message %q", key)
	}
	assert.Greater(t, len(seen), 50)
}

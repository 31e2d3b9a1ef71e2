package repo

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/internal/sqltext"
)

// fragment writes an SQL expression of the application in parentheses, with its placeholders renumbered. If questionMarks is
// set and the expression has no $n, its placeholders are question marks.
func (b *builder) fragment(sql string, args []any, questionMarks bool) {
	f := fragment{b: b, sql: sql, args: args, numbers: make([]int, len(args))}
	if f.named = namedArgs(args); f.named != nil {
		f.numbers, f.names = nil, map[string]int{}
	}
	numbered, problem := checkFragment(sql)
	if problem != "" {
		f.fail(problem)
		return
	}
	f.questionMarks = questionMarks && !numbered
	b.text("(")
	f.write()
	b.text(")")
	f.checkUnused()
}

// namedArgs returns the arguments by name if the only argument is a map of them, else nil.
func namedArgs(args []any) map[string]any {
	if len(args) != 1 {
		return nil
	}
	switch names := args[0].(type) {
	case pgx.NamedArgs:
		return nonNil(names)
	case pgx.StrictNamedArgs:
		return nonNil(names)
	}
	return nil
}

func nonNil(names map[string]any) map[string]any {
	if names == nil {
		return map[string]any{}
	}
	return names
}

// checkFragment checks that a fragment is one complete expression: its strings, comments and parentheses must end within it,
// whatever text follows. It reports whether the fragment has a placeholder $n, and what is wrong with it.
func checkFragment(sql string) (numbered bool, problem string) {
	if strings.IndexByte(sql, 0) >= 0 {
		return false, "has a zero byte"
	}
	depth, empty := 0, true
	lexer := sqltext.NewLexer(sql)
	for token, ok := lexer.Next(); ok; token, ok = lexer.Next() {
		switch {
		case token.Unterminated:
			return false, "has a string, quoted name or comment that doesn't end"
		case token.Kind == sqltext.Parameter:
			numbered = true
		case token.Kind != sqltext.Symbol:
		case token.Text == ";":
			return false, "has a semicolon: it must be one expression"
		case token.Text == "(", token.Text == "[":
			depth++
		case token.Text == ")", token.Text == "]":
			if depth--; depth < 0 {
				return false, "closes a parenthesis that it didn't open"
			}
		}
		empty = empty && (token.Kind == sqltext.Space || token.Kind == sqltext.Comment)
	}
	switch {
	case depth != 0:
		return false, "opens a parenthesis that it doesn't close"
	case empty:
		return false, "is empty"
	}
	return numbered, ""
}

// fragment is an expression of the application that is being written into a statement.
type fragment struct {
	b       *builder
	sql     string
	args    []any
	numbers []int // the fragment's arguments by their number in the statement, 0 for one that isn't used yet
	named   map[string]any
	names   map[string]int // as numbers, for named arguments
	// questionMarks makes question marks placeholders. written is how many of them are written already.
	questionMarks bool
	written       int
}

func (f *fragment) write() {
	lexer := sqltext.NewLexer(f.sql)
	for token, ok := lexer.Next(); ok; token, ok = lexer.Next() {
		switch token.Kind {
		case sqltext.Comment:
			f.b.text(" ")
		case sqltext.Parameter:
			f.number(token.Text)
		case sqltext.Operator:
			f.operator(token.Text, &lexer)
		default:
			f.b.text(token.Text)
		}
	}
}

// operator writes an operator, or a placeholder that the lexer takes for one. An operator may be followed by a placeholder
// without a space, as in =@name and =?. @> and ?| are operators.
func (f *fragment) operator(text string, lexer *sqltext.Lexer) {
	if before, ok := strings.CutSuffix(text, "@"); ok && f.named != nil && !endsWithAt(text) {
		ahead := *lexer
		if name, more := ahead.Next(); more && name.Kind == sqltext.Word {
			*lexer = ahead
			f.b.text(before)
			f.name(name.Text)
			return
		}
	}
	if f.questionMarks {
		if before, ok := strings.CutSuffix(text, "?"); ok && strings.Trim(before, "<>=!") == "" {
			f.b.text(before)
			f.written++
			f.number("$" + strconv.Itoa(f.written))
			return
		}
		text = strings.ReplaceAll(text, "??", "?") // as squirrel writes a question mark of an operator
	}
	f.b.text(text)
}

// endsWithAt reports whether an operator of PostgreSQL ends with @.
func endsWithAt(operator string) bool {
	switch operator {
	case "<@", "@@", "@@@", "^@":
		return true
	}
	return false
}

// number writes the fragment's placeholder $n.
func (f *fragment) number(text string) {
	if f.named != nil {
		f.fail("has the placeholder " + text + " and named arguments: use one kind")
		return
	}
	n, err := strconv.Atoi(text[1:])
	if err != nil || n < 1 || n > len(f.args) {
		f.fail(fmt.Sprintf("has the placeholder %s and %d arguments", text, len(f.args)))
		return
	}
	if f.numbers[n-1] > 0 {
		f.b.placeholder(f.numbers[n-1])
		return
	}
	f.b.arg(f.args[n-1])
	f.numbers[n-1] = len(f.b.args)
}

// name writes the fragment's placeholder @name.
func (f *fragment) name(name string) {
	if number, ok := f.names[name]; ok {
		f.b.placeholder(number)
		return
	}
	value, ok := f.named[name]
	if !ok {
		f.fail("has no argument for @" + name)
		return
	}
	f.b.arg(value)
	f.names[name] = len(f.b.args)
}

// checkUnused checks that every argument is used.
func (f *fragment) checkUnused() {
	for i, number := range f.numbers {
		if number == 0 {
			f.fail(fmt.Sprintf("doesn't use argument $%d; write $1 or @name where a value belongs", i+1))
			return
		}
	}
	for name := range f.named {
		if _, ok := f.names[name]; !ok {
			f.fail("doesn't use argument @" + name)
			return
		}
	}
}

func (f *fragment) fail(problem string) { f.b.failf("the fragment %q %s", f.sql, problem) }

package repo

import (
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
)

// builder puts the text of one statement and its arguments together. Names come from the model only, values become
// arguments only. The first error stays.
type builder struct {
	d    *descriptor
	sql  text
	args []any
	err  error
	q    query // see reads
}

// text is the text of a statement while it is written.
type text []byte

func (t *text) String() string { return string(*t) }

// builders are builders that have done their work, for others.
var builders = sync.Pool{New: func() any { return new(builder) }} //nolint:gochecknoglobals // a pool

// maxKept is how large a text may be, in bytes, and how many arguments there may be, for a builder to be used again.
const maxKept = 1 << 12

func newBuilder(d *descriptor, text string) *builder {
	b := builders.Get().(*builder) //nolint:forcetypeassert // nothing else is stored
	b.d = d
	return b.text(text)
}

// statement returns what was written. The text is the one that was made when the same was written before; the builder is
// done with.
func (b *builder) statement() (sql string, args []any, err error) {
	if err := b.err; err != nil {
		b.release()
		return "", nil, err
	}
	sql = b.d.statements.cache.intern(b.sql)
	if len(b.args) > 0 { // tracers may keep them
		args = append(make([]any, 0, len(b.args)), b.args...)
	}
	b.release()
	return sql, args, nil
}

func (b *builder) release() {
	if cap(b.sql) > maxKept || cap(b.args) > maxKept {
		return
	}
	clear(b.args)
	b.q.reset()
	*b = builder{sql: b.sql[:0], args: b.args[:0], q: b.q}
	builders.Put(b)
}

func (b *builder) text(text string) *builder {
	b.sql = append(b.sql, text...)
	return b
}

// arg adds an argument and writes its placeholder.
func (b *builder) arg(value any) *builder {
	switch value.(type) {
	case pgx.QueryExecMode, pgx.QueryResultFormats, pgx.QueryResultFormatsByOID, pgx.QueryRewriter:
		// As the first argument it would change how the driver treats the statement.
		b.failf("a %T can't be the value of a column", value)
	}
	b.args = append(b.args, value)
	return b.placeholder(len(b.args))
}

func (b *builder) placeholder(number int) *builder {
	b.sql = strconv.AppendInt(append(b.sql, '$'), int64(number), 10)
	return b
}

// column writes the quoted name of a column of the model.
func (b *builder) column(name string) *builder {
	c, err := b.d.column(name)
	if err != nil {
		b.setError(err)
		return b
	}
	return b.text(c.ident)
}

func (b *builder) failf(format string, args ...any) {
	b.setError(&queryError{b.d.label + ": " + fmt.Sprintf(format, args...)})
}

func (b *builder) setError(err error) {
	if b.err == nil {
		b.err = err
	}
}

// fragment writes an expression of the application's own, in parentheses, with its placeholders renumbered.
func (b *builder) fragment(sql string, args []any, questions bool) {
	f := fragment{b: b, sql: sql, args: args, numbers: make([]int, len(args))}
	if f.named = namedArgs(args); f.named != nil {
		f.numbers, f.names = nil, map[string]int{}
	}
	if !f.scan(questions) {
		return
	}
	b.text("(")
	f.write()
	b.text(")")
	f.checkUnused()
}

// namedArgs returns the names when the only argument is a map of them.
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

// fragment is an expression of the application's own on its way into a statement.
type fragment struct {
	b       *builder
	sql     string
	args    []any
	numbers []int // of the fragment's arguments in the statement, 0 for one that has not been used
	named   map[string]any
	names   map[string]int
	// asked says that question marks are placeholders; question is the number of those already written.
	questionMarks bool
	questions     int
}

// scan checks that the fragment is whole: it must not reach beyond its parentheses, whatever follows it.
func (f *fragment) scan(questions bool) bool {
	depth, content, numbered, fault := 0, false, false, ""
	for t := range f.tokens {
		switch t.kind {
		case tokenBroken:
			fault = "has a string, quoted name or comment that doesn't end"
		case tokenSemicolon:
			fault = "has a semicolon: it must be one expression"
		case tokenOpen:
			depth++
		case tokenClose:
			if depth--; depth < 0 {
				fault = "closes a parenthesis that it didn't open"
			}
		case tokenNumbered:
			numbered = true
		default:
		}
		content = content || t.kind != tokenComment && strings.TrimSpace(t.text) != ""
		if fault != "" {
			f.fail(fault)
			return false
		}
	}
	switch {
	case depth != 0:
		f.fail("opens a parenthesis that it doesn't close")
		return false
	case !content:
		f.fail("is empty")
		return false
	}
	f.questionMarks = questions && !numbered
	return true
}

func (f *fragment) tokens(yield func(token) bool) { tokenize(f.sql, yield) }

func (f *fragment) write() {
	for t := range f.tokens {
		switch {
		case t.kind == tokenComment:
			f.b.text(" ")
		case t.kind == tokenNumbered:
			f.number(t.text)
		case t.kind == tokenNamed && f.named != nil:
			f.name(t.text[1:])
		case t.kind == tokenQuestion && f.questionMarks:
			f.questions++
			f.number("$" + strconv.Itoa(f.questions))
		case f.questionMarks && t.kind == tokenText:
			f.b.text(strings.ReplaceAll(t.text, "??", "?")) // how squirrel writes an operator's question mark
		default:
			f.b.text(t.text)
		}
	}
}

// number writes the placeholder $n of the fragment.
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

// name writes the placeholder @name of the fragment.
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

// complete checks that every argument has been used.
func (f *fragment) checkUnused() {
	for i, number := range f.numbers {
		if number == 0 {
			f.fail(fmt.Sprintf("doesn't use argument $%d", i+1))
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

func (f *fragment) fail(what string) { f.b.failf("the fragment %q %s", f.sql, what) }

package repo

import (
	"fmt"
	"strconv"
	"sync"

	"github.com/jackc/pgx/v5"
)

// builder builds the text of one statement and its arguments. Names come only from the model, and values are only arguments. The
// first error is kept.
type builder struct {
	d    *descriptor
	sql  text
	args []any
	err  error
	q    query // see reads
}

// text is the text of a statement that is being written.
type text []byte

func (t *text) String() string { return string(*t) }

// builders holds builders for reuse.
var builders = sync.Pool{New: func() any { return new(builder) }} //nolint:gochecknoglobals // a pool

// maxKept is the size of a text, in bytes, and the number of arguments up to which a builder is reused.
const maxKept = 1 << 12

func newBuilder(d *descriptor, text string) *builder {
	b := builders.Get().(*builder) //nolint:forcetypeassert // nothing else is stored
	b.d = d
	return b.text(text)
}

// statement returns what was written and releases the builder. The text is the same string each time the same is written.
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
	b.d, b.sql, b.args, b.err = nil, b.sql[:0], b.args[:0], nil
	b.q.reset()
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

// operand writes a column of the model as an operand of a comparison.
func (b *builder) operand(name string) *builder {
	position, ok := b.d.byName[name]
	if !ok {
		return b.column(name) // which reports the error
	}
	return b.text(b.d.operand(b.d.columns[position].ident, position))
}

func (b *builder) failf(format string, args ...any) {
	b.setError(&queryError{b.d.label + ": " + fmt.Sprintf(format, args...)})
}

func (b *builder) setError(err error) {
	if b.err == nil {
		b.err = err
	}
}

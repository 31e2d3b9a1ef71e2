package repo

import (
	"context"
	"errors"
	"io"
	"reflect"
	"runtime"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rdsfx-go/rdsfx/internal/rowplan"
	"github.com/rdsfx-go/rdsfx/txn"
)

// errNoMoreRows is what a rowSource returns at its end.
var errNoMoreRows = errors.New("no more rows")

// rowSource returns one complete row after the other (see setAutomatic), and errNoMoreRows at their end. A row is an addressable
// struct that is valid until the next call. Calls don't overlap, but they may come from another goroutine than the caller's.
type rowSource func() (reflect.Value, error)

// copyRows copies rows into these columns of a table, in the transaction of ctx or on the pool, and returns how many. An error of
// the source other than errNoMoreRows ends the COPY and is returned unchanged. A value that can't be sent is a ValueError for
// the row that the source returned last.
//
// It does what pgx's CopyFrom does, including tracing, with two differences. Rows are encoded directly into the send buffer, in binary
// or as text (see rowplan.Encoder). And the columns' types are read each time, in one round trip. The server can't detect that eight
// bytes of a bigint are sent for a timestamp. A description from before an ALTER TABLE would therefore store wrong values.
func copyRows(ctx context.Context, tx *txn.Manager, to copyTarget, next rowSource) (int64, error) {
	c := &copier{copyTarget: to, next: next}
	err := tx.AcquireFunc(ctx, func(ctx context.Context, conn *pgx.Conn) error { return c.run(ctx, conn) })
	switch {
	case c.panicked != nil:
		panic(c.panicked)
	case c.exited:
		runtime.Goexit()
	case c.unsent != nil:
		c.unsent.explainCopy(ctx, tx, c.fields)
		return 0, c.unsent
	case c.sourceErr != nil:
		return 0, c.sourceErr
	}
	return c.tag.RowsAffected(), err
}

// copyTarget is the table of a COPY, or the stage.
type copyTarget struct {
	table   pgx.Identifier
	columns []*column // those to fill
	d       *descriptor
	live    *liveColumns
}

// errSourceFailed is the error that is sent to the server if the source has failed. The source's own may hold values, and the
// server would log it.
var errSourceFailed = errors.New("the source of the rows has failed")

// copier is a COPY in progress. It is the io.Reader of its data.
type copier struct {
	copyTarget

	next   rowSource
	conn   *pgx.Conn
	fields []pgconn.FieldDescription
	tag    pgconn.CommandTag

	mu            sync.Mutex // guards what follows: the driver reads in a goroutine
	encoder       *rowplan.Encoder
	row           reflect.Value
	headerWritten bool
	overflow      []byte // the part of a row that didn't fit into the buffer
	largest       int    // largest row so far, in bytes
	readErr       error  // the result of Read at the end
	sourceErr     error  // the source's error
	unsent        *ValueError
	// panicked is the value with which the source panicked. exited means that the source ended its goroutine. That goroutine is the
	// driver's, and the caller's has to panic or end instead.
	panicked any
	exited   bool
}

var _ io.Reader = (*copier)(nil)

func (c *copier) run(ctx context.Context, conn *pgx.Conn) (err error) {
	names, idents := make([]string, len(c.columns)), make([]string, len(c.columns))
	for i, column := range c.columns {
		names[i], idents[i] = column.name, column.ident
	}
	if tracer, ok := conn.Config().Tracer.(pgx.CopyFromTracer); ok {
		ctx = tracer.TraceCopyFromStart(ctx, conn, pgx.TraceCopyFromStartData{TableName: c.table, ColumnNames: names})
		defer func() { tracer.TraceCopyFromEnd(ctx, conn, pgx.TraceCopyFromEndData{CommandTag: c.tag, Err: err}) }()
	}
	list := strings.Join(idents, ", ")
	described, err := conn.Prepare(ctx, "", "select "+list+" from "+c.table.Sanitize())
	if err != nil {
		return err //nolint:wrapcheck // the caller wraps it with the operation
	}
	c.conn, c.fields = conn, described.Fields
	c.prepare()
	sql := "copy " + c.table.Sanitize() + " (" + list + ") from stdin"
	if !c.encoder.Text() {
		sql += " binary"
	}
	defer c.stop()
	c.tag, err = conn.PgConn().CopyFrom(ctx, c, sql)
	return err //nolint:wrapcheck // the caller wraps it with the operation
}

// stop waits for a row that is being encoded and then ends the data. If the connection is lost the driver doesn't wait for its
// own goroutine.
func (c *copier) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readErr, c.overflow = io.ErrClosedPipe, nil
}

// signature is the header of a binary COPY without flags and extension (PostgreSQL manual, "COPY", "Binary Format").
const signature = "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// Read fills p with as many rows as fit.
func (c *copier) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.overflow) > 0 {
		n := copy(p, c.overflow)
		c.overflow = c.overflow[n:]
		return n, nil
	}
	buf := p[:0:len(p)]
	if !c.headerWritten && !c.encoder.Text() {
		c.headerWritten = true
		buf = append(buf, signature...)
	}
	for more := true; more && c.readErr == nil; more = len(p)-len(buf) >= min(c.largest, len(p)/8) { //nolint:mnd // bounds the waste
		before := len(buf)
		buf = c.appendRow(buf)
		c.largest = max(c.largest, len(buf)-before)
	}
	if len(buf) == 0 {
		return 0, c.readErr
	}
	n := copy(p, buf) // a no-op unless buf was reallocated
	if n < len(buf) {
		c.overflow = append([]byte(nil), buf[n:]...)
	}
	return n, nil
}

// appendRow appends the next row, or records the end.
func (c *copier) appendRow(buf []byte) []byte {
	row, err := c.nextRow()
	if err == errNoMoreRows { //nolint:errorlint // it is never wrapped
		c.readErr = io.EOF
		return buf
	}
	if err != nil {
		c.sourceErr, c.readErr = err, errSourceFailed
		return buf
	}
	if c.row = row; row.Type() != c.d.typ {
		c.sourceErr, c.readErr = errors.New("rows of different types"), errSourceFailed
		return buf
	}
	longer, column, err := c.encoder.Append(buf, row.Addr().UnsafePointer(), c.boxed)
	if err != nil {
		_, known := c.conn.TypeMap().TypeForOID(c.fields[column].DataTypeOID)
		c.unsent = &ValueError{Column: c.columns[column].name, Parameter: column + 1, unregistered: !known, err: err}
		c.sourceErr, c.readErr = c.unsent, errSourceFailed
		return buf
	}
	return longer
}

// nextRow calls the source. A panic of the source would end the process here, so it is recovered. If the source ends the
// goroutine, the driver would wait forever, so the connection is closed.
func (c *copier) nextRow() (row reflect.Value, err error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		if c.panicked = recover(); c.panicked != nil {
			err = errSourceFailed
			return
		}
		c.exited, c.readErr = true, errSourceFailed
		_ = c.conn.PgConn().Conn().Close()
	}()
	row, err = c.next()
	returned = true
	return row, err
}

// prepare makes the encoder. The types are those that the server has just described, for a domain its base type.
func (c *copier) prepare() {
	columns := make([]rowplan.Column, len(c.columns))
	for i, column := range c.columns {
		columns[i] = rowplan.Column{OID: c.fields[i].DataTypeOID, Ordinal: column.ordinal}
		if column.ordinal {
			continue
		}
		live, oid := c.live.columns[c.d.positionOf(column)], c.fields[i].DataTypeOID
		columns[i] = rowplan.Column{
			Path: column.index, Boxed: column.indirect || column.roles.is(roleJSON), JSON: column.roles.is(roleJSON), OID: oid,
			Enum: live != nil && live.Kind == "e" && live.Base == oid,
		}
		if _, known := c.conn.TypeMap().TypeForOID(oid); !known && live != nil && live.Base != oid { // an array of a domain
			columns[i].OID, columns[i].Text = live.Base, true
		}
	}
	c.encoder = rowplan.NewEncoder(c.conn.TypeMap(), c.d.typ, columns)
}

// boxed returns the value of a column as an argument.
func (c *copier) boxed(column int) any {
	from := c.columns[column]
	return c.live.arg(c.d.positionOf(from), fieldArg(c.row, from))
}

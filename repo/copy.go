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

// This file is the seam between structs and COPY: whatever copies rows of a model goes through copyRows.

// errNoMore is what a source of rows returns at its end.
var errNoMoreRows = errors.New("no more rows")

// rowSource returns one complete row after the other (see fill), each a struct that can be addressed and is done with when the
// next one is asked for, and errNoMore at their end. It is called by one goroutine at a time, which need not be the caller's.
type rowSource func() (reflect.Value, error)

// copyRows copies rows into these columns of a table, in the transaction that ctx carries or on the pool, and returns how
// many. Another error of the source than errNoMore ends the COPY and comes back as it is; a value that can't be sent is an
// encodeError, and the row the last one that was taken.
//
// It does what pgx's CopyFrom does, tracers included, but for two things. The rows are written straight into the buffer that is
// sent (see rowplan.Encoder). And the columns' types are asked for each time, one round trip: the server takes eight bytes of a
// bigint for eight bytes of a timestamp, so that a description from before an ALTER TABLE would store nonsense.
func copyRows(ctx context.Context, tx *txn.Manager, table pgx.Identifier, columns []*column, next rowSource) (int64, error) {
	c := &copier{columns: columns, next: next}
	err := tx.AcquireFunc(ctx, func(ctx context.Context, conn *pgx.Conn) error { return c.run(ctx, conn, table) })
	switch {
	case c.panicked != nil:
		panic(c.panicked)
	case c.exited:
		runtime.Goexit()
	case c.sourceErr != nil:
		return 0, c.sourceErr
	}
	return c.tag.RowsAffected(), err
}

// errBroken is what the server is told when the source has failed: its own error may hold values, and the server would log it.
var errSourceFailed = errors.New("the source of the rows has failed")

// copier is a COPY. It is the reader of its data.
type copier struct {
	columns []*column
	next    rowSource
	conn    *pgx.Conn
	fields  []pgconn.FieldDescription
	tag     pgconn.CommandTag

	mu            sync.Mutex // orders the driver's goroutine, which reads, and the end
	encoder       *rowplan.Encoder
	typ           reflect.Type
	row           reflect.Value
	headerWritten bool
	overflow      []byte // of a row that was too large for the buffer
	largest       int    // row so far, in bytes
	readErr       error  // what Read returns once there is nothing more
	sourceErr     error  // of the source
	// panicked is what the source has panicked with, and exited that it has ended its goroutine: the driver's, and not the
	// caller's, where both go on.
	panicked any
	exited   bool
}

var _ io.Reader = (*copier)(nil)

func (c *copier) run(ctx context.Context, conn *pgx.Conn, table pgx.Identifier) (err error) {
	names, idents := make([]string, len(c.columns)), make([]string, len(c.columns))
	for i, column := range c.columns {
		names[i], idents[i] = column.name, column.ident
	}
	if tracer, ok := conn.Config().Tracer.(pgx.CopyFromTracer); ok {
		ctx = tracer.TraceCopyFromStart(ctx, conn, pgx.TraceCopyFromStartData{TableName: table, ColumnNames: names})
		defer func() { tracer.TraceCopyFromEnd(ctx, conn, pgx.TraceCopyFromEndData{CommandTag: c.tag, Err: err}) }()
	}
	list := strings.Join(idents, ", ")
	described, err := conn.Prepare(ctx, "", "select "+list+" from "+table.Sanitize())
	if err != nil {
		return err //nolint:wrapcheck // the caller wraps it with the operation
	}
	c.conn, c.fields = conn, described.Fields
	defer c.stop()
	c.tag, err = conn.PgConn().CopyFrom(ctx, c, "copy "+table.Sanitize()+" ("+list+") from stdin binary")
	return err //nolint:wrapcheck // the caller wraps it with the operation
}

// stop waits for a row that is being taken and takes no more: when the connection is lost the driver doesn't wait for its
// goroutine.
func (c *copier) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readErr, c.overflow = io.ErrClosedPipe, nil
}

// signature begins a COPY in binary: without flags, without an extension (PostgreSQL manual, "COPY", "Binary Format").
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
	if !c.headerWritten {
		c.headerWritten = true
		buf = append(buf, signature...)
	}
	for more := true; more && c.readErr == nil; more = len(p)-len(buf) >= min(c.largest, len(p)/8) { //nolint:mnd // one huge row may waste no more
		before := len(buf)
		buf = c.appendRow(buf)
		c.largest = max(c.largest, len(buf)-before)
	}
	if len(buf) == 0 {
		return 0, c.readErr
	}
	n := copy(p, buf) // onto itself, unless it has become longer
	if n < len(buf) {
		c.overflow = append([]byte(nil), buf[n:]...)
	}
	return n, nil
}

// take appends the next row, or notes the end.
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
	if c.row = row; c.encoder == nil {
		c.prepare(row.Type())
	}
	if row.Type() != c.typ {
		c.sourceErr, c.readErr = errors.New("rows of different types"), errSourceFailed
		return buf
	}
	longer, column, err := c.encoder.Append(buf, row.Addr().UnsafePointer(), c.boxed)
	if err != nil {
		c.sourceErr, c.readErr = &encodeError{column: c.columns[column].name, err: err}, errSourceFailed
		return buf
	}
	return longer
}

// ask calls the source, whose panic would end the process here. When it ends the goroutine the driver would wait for ever, so that
// the connection has to go.
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

func (c *copier) prepare(typ reflect.Type) {
	columns := make([]rowplan.Column, len(c.columns))
	for i, column := range c.columns {
		columns[i] = rowplan.Column{Path: column.index, Boxed: column.indirect || column.roles.is(roleJSON), OID: c.fields[i].DataTypeOID}
	}
	c.typ, c.encoder = typ, rowplan.NewEncoder(c.conn.TypeMap(), typ, columns)
}

// boxed returns the value of a column as an argument.
func (c *copier) boxed(column int) any { return fieldArg(c.row, c.columns[column]) }

package repo

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/rdsfx-go/rdsfx/internal/pgcodec"
	"github.com/rdsfx-go/rdsfx/txn"
)

// ReadError reports that a column can't be read into its field: the field's type can't hold the column's type, or not this value.
// Examples are an inet in a string, infinity in a time.Time, NULL in an int, and an interval with months in a time.Duration. It is a
// mistake of the model. Its text contains names and types, never a value. It unwraps to the driver's error, whose text may contain
// the value.
//
// If no value fits, a write returns it before anything is sent. If a stored value doesn't fit, a write outside a transaction is
// done. It returns a [*txn.CommittedError] that unwraps to the ReadError: don't repeat the write.
type ReadError struct {
	// Table is the model's table, "" for your SQL.
	Table string
	// Column is the column, Field the struct's field and GoType its type. Type is the column's type in SQL, "" if it is unknown.
	Column, Field, GoType, Type string

	op   string
	fix  string
	null bool // the value is NULL
	err  error
}

func (e *ReadError) Error() string {
	var b strings.Builder
	b.WriteString("repo: ")
	if context := strings.TrimSpace(e.op + " " + e.Table); context != "" {
		b.WriteString(context + ": ")
	}
	switch {
	case e.null:
		fmt.Fprintf(&b, "NULL of column %q can't be read into field %s of type %s", e.Column, e.Field, e.GoType)
	case e.Type == "":
		fmt.Fprintf(&b, "a value of column %q can't be read into field %s of type %s", e.Column, e.Field, e.GoType)
	default:
		fmt.Fprintf(&b, "column %q of type %s can't be read into field %s of type %s", e.Column, e.Type, e.Field, e.GoType)
	}
	if e.fix != "" {
		b.WriteString(": " + e.fix)
	}
	return b.String()
}

func (e *ReadError) Unwrap() error { return e.err }

// asReadError returns a ReadError for the driver's error of reading the current row, or err unchanged if it names no column of the
// model.
func (s *shape) asReadError(rows pgx.Rows, err error) error {
	scan, ok := errors.AsType[pgx.ScanArgError](err)
	if !ok {
		return err
	}
	position, ok := s.byName[scan.FieldName]
	if !ok {
		return err
	}
	c := &s.columns[position]
	read := &ReadError{Column: c.name, Field: c.field, GoType: c.typ.String(), err: err}
	if read.null = rows.RawValues()[scan.ColumnIndex] == nil; read.null {
		read.fix = "use a pointer or another type that can be NULL, or make the column not null"
	} else {
		read.fix = "use a type that holds every value of the column, such as one of pgtype, or a constraint that refuses the value"
	}
	return read
}

// findUnreadable returns a ReadError for the first column whose values can be written but never be read into their field. A field
// whose values can't be written either is left to the ValueError of the value. types are those of a connection.
func (d *descriptor) findUnreadable(l *liveColumns, types *pgtype.Map) *ReadError {
	for i, live := range l.columns {
		if live == nil {
			continue
		}
		c, oid := &d.columns[i], live.resultOID()
		typ := c.typ
		if c.indirect {
			typ = reflect.PointerTo(typ)
		}
		format := types.FormatCodeForOID(oid)
		if l.untyped {
			format = pgtype.TextFormatCode
		}
		if _, known := types.TypeForOID(oid); !known {
			if _, known := types.TypeForOID(live.Base); known { // an array of a domain has the text of its base type
				oid, format = live.Base, pgtype.TextFormatCode
			}
		}
		target := reflect.New(typ)
		if pgcodec.CanScan(types.PlanScan(oid, format, target.Interface())) && !isGuess(types, oid, target) {
			continue
		}
		if value := reflect.Zero(c.typ).Interface(); c.written() && !c.roles.is(roleJSON) && types.PlanEncode(oid, format, value) == nil &&
			c.typ.Kind() != reflect.String {
			continue
		}
		fix := "use a type into which the driver reads " + live.Type + ", or read the column as text through a view or a generated column"
		if _, known := types.TypeForOID(oid); !known {
			fix = "use a string, or register the type with pgfx.WithTypes or a codec with pgfx.WithAfterConnect"
		}
		return &ReadError{Table: d.label, Column: c.name, Field: c.field, GoType: c.typ.String(), Type: live.Type, fix: fix}
	}
	return nil
}

// isGuess reports whether the driver would parse a type that it doesn't know as the type that it maps the target to. Text that a
// type such as money prints is no number.
func isGuess(types *pgtype.Map, oid uint32, target reflect.Value) bool {
	if _, known := types.TypeForOID(oid); known {
		return false
	}
	typ, mapped := types.TypeForValue(target.Interface())
	if !mapped {
		return isPlain(target.Type().Elem().Kind())
	}
	switch typ.OID {
	case pgtype.TextOID, pgtype.VarcharOID, pgtype.ByteaOID, pgtype.TextArrayOID:
		return false
	}
	return true
}

// isPlain reports whether a kind is boolean or numeric.
func isPlain(kind reflect.Kind) bool { return kind >= reflect.Bool && kind <= reflect.Float64 }

// wrapStored is wrap for a single statement that writes. If only the returned row couldn't be read, the write is done.
func (r *base) wrapStored(ctx context.Context, op string, err error) error {
	return r.asStored(ctx, r.wrap(op, err))
}

// asStored returns a CommittedError if a single statement outside a transaction failed only because its result couldn't be read.
func (r *base) asStored(ctx context.Context, err error) error {
	if _, inside := r.tx.Tx(ctx); inside || !isReadError(err) {
		return err
	}
	return &txn.CommittedError{Cause: err}
}

func isReadError(err error) bool {
	_, ok := errors.AsType[*ReadError](err)
	return ok
}

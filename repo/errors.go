package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/txn"
)

var (
	// ErrNotFound is returned if the requested row, or the row to write, doesn't exist. Soft-deleted rows don't exist unless they
	// are included explicitly.
	ErrNotFound = errors.New("repo: not found")
	// ErrStale is matched by every [*StaleError].
	ErrStale = errors.New("repo: stale")
	// ErrInvalid is matched by every [*InvalidError].
	ErrInvalid = errors.New("repo: invalid")
	// ErrDeleted is returned if an upsert conflicts with a soft-deleted row, without [RestoreDeleted].
	ErrDeleted = errors.New("repo: the row is soft-deleted; restore it with repo.RestoreDeleted or Restore")
	// ErrSuppressed is returned by a write that the server accepted without returning a row. A trigger or a rule suppressed it, or a
	// row-level security policy hides the row with which an upsert with [DoNothing] conflicts.
	ErrSuppressed = errors.New("the server returned no row: a trigger or a rule suppressed the write, or a row-level security policy hides the existing row")
	// ErrQuery is matched by the errors of malformed filters, orders and limits. Examples are an unknown column, a raw fragment that
	// is not one expression, and a missing argument. Nothing was sent to the database.
	ErrQuery = errors.New("repo: malformed query")
	// ErrCursor is matched by the error of a cursor that is damaged, or of another table or order. The error also matches
	// [ErrQuery]. Cursors usually come from a client, so an HTTP handler responds with 400.
	ErrCursor = errors.New("repo: cursor refused")
	// ErrConstraint is matched by every [*ConstraintError].
	ErrConstraint = errors.New("repo: constraint violated")
)

// notFoundError is an ErrNotFound that names the table.
type notFoundError struct{ label string }

func (e *notFoundError) Error() string { return "repo: no such row in " + e.label }

func (e *notFoundError) Is(target error) bool { return target == ErrNotFound }

// MissingError reports which of several keys have no row. It matches [ErrNotFound].
type MissingError struct {
	// Table is the model's table.
	Table string
	// Keys is the number of requested keys.
	Keys int
	// Indexes are the positions of the keys that have no row, ascending.
	Indexes []int
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("repo: %d of %d keys not found in %s (first at index %d)", len(e.Indexes), e.Keys, e.Table, e.Indexes[0])
}

// Is matches ErrNotFound.
func (e *MissingError) Is(target error) bool { return target == ErrNotFound }

// StaleError reports that a row was changed since it was read: its version differs. Nothing was written. It matches
// [ErrStale]. Read the row again and decide.
type StaleError struct {
	// Table is the model's table.
	Table string
	// Have is the struct's version, Stored the one in the database, read after the write had failed.
	Have, Stored int64
}

func (e *StaleError) Error() string {
	return fmt.Sprintf("repo: stale: the row of %s has version %d in the database and %d in the struct; read it again", e.Table, e.Stored, e.Have)
}

// Is matches ErrStale.
func (e *StaleError) Is(target error) bool { return target == ErrStale }

// InvalidError reports that validation refused a row before it was sent. It matches [ErrInvalid] and unwraps to the validator's
// error.
type InvalidError struct {
	// Table is the model's table.
	Table string
	// Index is the row's position in a bulk write, -1 for a single write.
	Index int

	err error
}

func (e *InvalidError) Error() string {
	text := "repo: invalid row for " + e.Table
	if e.Index >= 0 {
		text += fmt.Sprintf(" at index %d", e.Index)
	}
	return text + ": " + e.err.Error()
}

// Is matches ErrInvalid.
func (e *InvalidError) Is(target error) bool { return target == ErrInvalid }

func (e *InvalidError) Unwrap() error { return e.err }

// ConstraintKind is the kind of a constraint.
type ConstraintKind string

// The kinds of constraints.
const (
	KindUnique     ConstraintKind = "unique"
	KindForeignKey ConstraintKind = "foreign key"
	KindCheck      ConstraintKind = "check"
	KindNotNull    ConstraintKind = "not null"
	KindExclusion  ConstraintKind = "exclusion"
)

func constraintKind(code string) ConstraintKind {
	switch code {
	case sqlstate.UniqueViolation:
		return KindUnique
	case sqlstate.ForeignKeyViolation:
		return KindForeignKey
	case sqlstate.CheckViolation:
		return KindCheck
	case sqlstate.NotNullViolation:
		return KindNotNull
	case sqlstate.ExclusionViolation:
		return KindExclusion
	}
	return ""
}

// ConstraintError reports which constraint refused a write. Its text contains names only, never a value. It matches
// [ErrConstraint] and the error that [MapConstraint] assigned to the constraint, and unwraps to the *pgconn.PgError, whose Detail
// field contains values.
type ConstraintError struct {
	// Kind is the kind of the constraint.
	Kind ConstraintKind
	// Table is the table of the constraint, as the server names it.
	Table string
	// Constraint is its name. It is "" for not null before PostgreSQL 18, for a row without a partition and for an exception that a
	// trigger raises with this code.
	Constraint string
	// Columns are the columns or expressions that the server names, empty for check constraints.
	Columns []string
	// Index is the row's position in a bulk write if it is known, else -1. A deferred constraint that fails at the commit names no
	// row.
	Index int

	mapped, err error
}

func (e *ConstraintError) Error() string {
	var b strings.Builder
	b.WriteString("repo: ")
	if e.mapped != nil {
		b.WriteString(e.mapped.Error() + ": ")
	}
	fmt.Fprintf(&b, "%s constraint", e.Kind)
	if e.Constraint != "" {
		b.WriteString(" " + e.Constraint)
	}
	b.WriteString(" of " + e.Table)
	if len(e.Columns) > 0 {
		b.WriteString(" (" + strings.Join(e.Columns, ", ") + ")")
	}
	if e.Index >= 0 {
		fmt.Fprintf(&b, " violated by the row at index %d", e.Index)
	} else {
		b.WriteString(" violated")
	}
	if e.Kind == KindCheck && e.Constraint == "" {
		b.WriteString(": there is no partition for the row, or a trigger refuses it")
	}
	return b.String()
}

// Is matches ErrConstraint.
func (e *ConstraintError) Is(target error) bool { return target == ErrConstraint }

func (e *ConstraintError) Unwrap() []error {
	if e.mapped != nil {
		return []error{e.mapped, e.err}
	}
	return []error{e.err}
}

// queryError is an error in the caller's arguments. It matches ErrQuery.
type queryError struct{ text string }

func (e *queryError) Error() string { return "repo: " + e.text }

func (e *queryError) Is(target error) bool { return target == ErrQuery }

// cursorError is a queryError about a cursor.
type cursorError struct{ label string }

func (e *cursorError) Error() string {
	return "repo: " + e.label + ": the cursor is damaged, or of another table or order; begin without one"
}

func (e *cursorError) Is(target error) bool { return target == ErrCursor || target == ErrQuery }

// statementError is an error of the server or the driver, with a text that contains no values.
type statementError struct {
	text string
	err  error
}

func (e *statementError) Error() string { return e.text }

func (e *statementError) Unwrap() error { return e.err }

// errKeyChanged means that a row came back from the database with other values than were sent, so it can't be matched.
var errKeyChanged = errors.New("a row came back from the database with another key than was sent and can't be matched: " +
	"check for a trigger, or a type such as char(n) that changes values; the structs are unchanged")

// wrap adds context to the error of a statement. index is the row's position in a bulk write, or -1.
func (d *descriptor) wrap(op string, err error, index int) error {
	if sqlstate.Code(err) == sqlstate.UndefinedColumn {
		d.live.Store(nil) // a view may have replaced the table
	}
	return wrapError(op, d.label, d.constraints, err, index)
}

// wrapError is wrap for a statement without a model, for which label is empty.
func wrapError(op, label string, constraints map[string]error, err error, index int) error {
	if err == nil || isComplete(err) {
		return err
	}
	if value := asValueError(err); value != nil {
		value.op, value.Table = op, label
		return value
	}
	if unread, ok := errors.AsType[*ReadError](err); ok {
		unread.op, unread.Table = op, label
		return unread
	}
	pg, ok := pgError(err)
	if !ok {
		return &statementError{text: "repo: " + strings.TrimSpace(op+" "+label) + ": " + driverText(err), err: err}
	}
	if kind := constraintKind(pg.Code); kind != "" {
		table := pg.TableName
		if table == "" {
			table = label
		}
		return &ConstraintError{
			Kind: kind, Table: table, Constraint: pg.ConstraintName, Columns: constraintColumns(pg), Index: index,
			mapped: constraints[pg.ConstraintName], err: err,
		}
	}
	return &statementError{text: "repo: " + strings.TrimSpace(op+" "+label) + ": " + serverText(label, pg), err: err}
}

// pgError returns the server's error, if there is one.
func pgError(err error) (*pgconn.PgError, bool) { return errors.AsType[*pgconn.PgError](err) }

// isComplete reports whether an error needs no more context. That holds for errors of this package and of lower layers, and for
// the bare error of the caller's ctx.
func isComplete(err error) bool {
	switch err := err.(type) { //nolint:errorlint // a wrapped one gets its context
	case *ValueError:
		return err.op != ""
	case *ReadError:
		return err.op != ""
	case *notFoundError, *MissingError, *StaleError, *InvalidError, *ConstraintError, *RowError, *BatchError, *queryError, *cursorError,
		*statementError:
		return true
	}
	//nolint:errorlint // wrapped ones are the driver's
	return err == ErrDeleted || err == context.Canceled || err == context.DeadlineExceeded || fromLowerLayer(err)
}

// lowerLayerErrors are the sentinel errors of packages pgfx and txn that statements can return.
var lowerLayerErrors = []error{
	pgfx.ErrUnavailable, pgfx.ErrAcquireTimeout, pgfx.ErrClosed, pgfx.ErrNotStarted,
	txn.ErrTxDone, txn.ErrConcurrentUse, txn.ErrPoolInTransaction, txn.ErrOuterContext, txn.ErrRollbackOnly, txn.ErrOutcomeUnknown,
	txn.ErrOptionMismatch, txn.ErrManagedTx, txn.ErrNoTransaction, txn.ErrInTransaction,
}

// fromLowerLayer reports whether an error is one of packages pgfx and txn, which carries its own context.
func fromLowerLayer(err error) bool {
	if _, ok := errors.AsType[*pgfx.RetryError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*txn.CommittedError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*txn.FailedStatementError](err); ok {
		return true
	}
	return slices.ContainsFunc(lowerLayerErrors, func(known error) bool { return errors.Is(err, known) })
}

// serverText returns the server's message.
func serverText(label string, pg *pgconn.PgError) string {
	text := pg.Message + " (SQLSTATE " + pg.Code + ")"
	switch {
	case pg.Code == sqlstate.UndefinedTable && label != "":
		text += ": create it in a migration or a setup step, or correct the table's name"
	case pg.Code == sqlstate.GeneratedAlways:
		text += ": give its field the role generated, or leave the field zero with the role default"
	}
	return text
}

// driverText returns the text of an error that isn't the server's. That of an argument that can't be encoded quotes the
// argument.
func driverText(err error) string {
	if _, early := errors.AsType[pgx.ErrPreprocessingBatch](err); early && mayBeEncoding(err) {
		return "a value can't be sent as its parameter's type"
	}
	return err.Error()
}

// constraintColumns returns the columns that the server names: in a field for not null, otherwise in the detail, without the
// values. The server reports them nowhere else. The detail's words are translated, its punctuation is not.
func constraintColumns(pg *pgconn.PgError) []string {
	if pg.ColumnName != "" {
		return []string{pg.ColumnName}
	}
	names, _, found := strings.Cut(pg.Detail, ")=(")
	if !found {
		return nil
	}
	_, names, found = strings.Cut(names, "(")
	if !found {
		return nil
	}
	return splitColumns(names)
}

// splitColumns splits a list at the commas that are outside parentheses and quotes.
func splitColumns(list string) []string {
	var (
		columns []string
		depth   int
		quoted  bool
		start   int
	)
	for i := range len(list) {
		switch list[i] {
		case '"':
			quoted = !quoted
		case '(':
			depth++
		case ')':
			depth--
		case ',':
			if depth == 0 && !quoted {
				columns = append(columns, strings.TrimSpace(list[start:i]))
				start = i + 1
			}
		}
	}
	return append(columns, strings.TrimSpace(list[start:]))
}

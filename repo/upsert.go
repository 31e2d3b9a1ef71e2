package repo

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// UpsertResult reports what an upsert did with a row. The zero value is no result; it is what a failed call returns.
type UpsertResult uint8

const (
	// Unchanged means that the row existed and was left alone (see [DoNothing]).
	Unchanged UpsertResult = iota + 1
	// Inserted means that the row did not exist.
	Inserted
	// Updated means that the row existed and was changed.
	Updated
)

// String returns "unchanged", "inserted", "updated", or "invalid" for any other value.
func (r UpsertResult) String() string {
	switch r {
	case Unchanged:
		return "unchanged"
	case Inserted:
		return "inserted"
	case Updated:
		return "updated"
	default:
		return "invalid"
	}
}

// UpsertOption is an option of one upsert: [OnConflict], [OnConflictExpr], [OnIndex], [OnConstraint], [DoNothing],
// [RestoreDeleted] or [SendZero].
type UpsertOption interface {
	applyUpsert(*upsert)
}

type upsertOptionFunc func(*upsert)

func (f upsertOptionFunc) applyUpsert(u *upsert) { f(u) }

// ConflictTarget defines which rows are the same row for an upsert. Pass it to one upsert, or to a repository for all of its
// upserts. In the second case the schema check verifies that its unique index exists.
type ConflictTarget struct {
	columns     []string
	expressions []string // instead of columns, see OnConflictExpr
	constraint  string
	index       string // see OnIndex
	predicate   string
	// isExpression is set for a target with expressions.
	isExpression bool
}

// OnConflict makes rows with the same values in these columns the same row. A unique index on the columns is required.
// Default: the key.
func OnConflict(columns ...string) ConflictTarget { return ConflictTarget{columns: columns} }

// OnConstraint makes rows that conflict under the constraint of this name the same row.
func OnConstraint(name string) ConflictTarget { return ConflictTarget{constraint: name} }

// Where adds the predicate of a partial unique index, in SQL: OnConflict("email").Where("deleted_at is null").
func (t ConflictTarget) Where(predicate string) ConflictTarget {
	t.predicate = predicate
	return t
}

func (t ConflictTarget) configure(s *settings) { s.conflict = &t }

func (t ConflictTarget) applyUpsert(u *upsert) { u.target = &t }

// DoNothing leaves an existing row alone and reads it into the struct. With [OnConstraint] the constraint's columns are read from
// the catalog, once. It must be a unique constraint on columns of the model. With expressions the server computes those of the row.
func DoNothing() UpsertOption { return upsertOptionFunc(func(u *upsert) { u.doNothing = true }) }

// RestoreDeleted makes an upsert update a soft-deleted row too, including its softdelete column. Without it such a row is left
// alone, and the upsert returns [ErrDeleted].
func RestoreDeleted() UpsertOption {
	return upsertOptionFunc(func(u *upsert) { u.restoreDeleted = true })
}

// upsert holds the options of one call.
type upsert struct {
	target                    *ConflictTarget
	doNothing, restoreDeleted bool
	// zeroNames are the columns of SendZero, zero their positions.
	zeroNames []string
	zero      zeroColumns
}

// checkTarget checks a conflict target against the model.
func (d *descriptor) checkTarget(t *ConflictTarget) error {
	if t.index != "" || t.isExpression {
		if err := t.checkExpressions(d); err != nil {
			return err
		}
	} else if t.constraint == "" && len(t.columns) == 0 {
		return &queryError{d.label + ": a conflict target needs columns or the name of a constraint"}
	}
	if t.constraint != "" && t.predicate != "" {
		return &queryError{d.label + ": a constraint has no predicate: use OnConflict with the columns of the partial index"}
	}
	for i, name := range t.columns {
		if _, err := d.column(name); err != nil {
			return err
		}
		if slices.Contains(t.columns[:i], name) {
			return &queryError{fmt.Sprintf("%s: conflict column %q is named twice", d.label, name)}
		}
	}
	if t.predicate == "" {
		return nil
	}
	b := newBuilder(d, "")
	b.fragment(t.predicate, nil, false)
	return b.err
}

// newUpsert applies and checks options. The result must not be modified: without options it is shared.
func (d *descriptor) newUpsert(opts []UpsertOption) (*upsert, error) {
	if len(opts) == 0 && d.statements.defaultUpsert != nil {
		return d.statements.defaultUpsert, nil
	}
	u := &upsert{target: d.conflict}
	for _, opt := range opts {
		if opt == nil {
			return nil, &queryError{d.label + ": an upsert option is nil"}
		}
		opt.applyUpsert(u)
	}
	if u.target == nil {
		u.target = &ConflictTarget{}
		for _, position := range d.key {
			u.target.columns = append(u.target.columns, d.columns[position].name)
		}
	}
	if err := d.checkTarget(u.target); err != nil {
		return nil, err
	}
	var err error
	u.zero, err = d.zeroColumns(u.zeroNames)
	return u, err
}

// check returns an error for a row that can never conflict, because a conflict column is left to the database.
func (u *upsert) check(d *descriptor, layout []byte) error {
	for _, name := range u.target.columns {
		if layout[d.byName[name]] == fromDefault {
			return &queryError{fmt.Sprintf("upsert %s: conflict column %q is left to the database and never conflicts: "+
				"fill it, or name other columns with OnConflict", d.label, name)}
		}
	}
	return nil
}

// text returns the statement that upserts a row of this layout.
func (u *upsert) text(d *descriptor, live *liveColumns, layout []byte) string {
	var buf [256]byte
	if u == d.statements.defaultUpsert {
		key := append(append(append(buf[:0], "usual "...), layout...), live.casts...)
		return d.statements.cache.getOrCompile(key, func() string { return u.compile(d, live, layout) })
	}
	key := appendPart(append(append(buf[:0], "upsert "...), layout...), live.casts)
	key = strconv.AppendBool(strconv.AppendBool(key, u.doNothing), u.restoreDeleted)
	for _, part := range slices.Concat(u.target.columns, u.target.expressions) {
		key = appendPart(key, part)
	}
	key = appendPart(appendPart(append(key, '/'), u.target.constraint), u.target.predicate)
	return d.statements.cache.getOrCompile(key, func() string { return u.compile(d, live, layout) })
}

func (u *upsert) compile(d *descriptor, live *liveColumns, layout []byte) string {
	return d.compileInsert(live, layout) + u.clause(d, layout) + d.statements.returning + ", " + d.wasInserted(live.view)
}

// appendPart appends a part of a cache key, with its length to keep it apart from others.
func appendPart(key []byte, part string) []byte {
	return append(append(strconv.AppendInt(key, int64(len(part)), 10), ':'), part...)
}

// wasInserted returns the expression that reports whether a returned row was inserted. An updated row has an xmax. A view has none,
// nor has a row returned by a partitioned table. The statement's snapshot, which shows the table as before, is then searched for
// the row.
func (d *descriptor) wasInserted(view bool) string {
	same, table, before := make([]string, len(d.key)), d.insertedName(), d.alias("before")
	for i, position := range d.key {
		ident := d.columns[position].ident
		same[i] = before + "." + ident + " = " + table + "." + ident
	}
	absent := "not exists (select from " + d.table + " as " + before + " where " + strings.Join(same, " and ") + ")"
	if view {
		return absent
	}
	return "case when " + table + ".tableoid = " + d.tableLiteral() + "::regclass then " + table + ".xmax = 0 else " + absent + " end"
}

// tableLiteral returns the table's quoted name as a string literal.
func (d *descriptor) tableLiteral() string { return "'" + strings.ReplaceAll(d.table, "'", "''") + "'" }

// clause returns the ON CONFLICT clause.
func (u *upsert) clause(d *descriptor, layout []byte) string {
	var b strings.Builder
	b.WriteString(" on conflict ")
	if u.target.constraint != "" {
		b.WriteString("on constraint " + pgx.Identifier{u.target.constraint}.Sanitize())
	} else {
		target := newBuilder(d, "")
		u.target.write(target)
		b.WriteString(target.sql.String())
	}
	if u.doNothing {
		b.WriteString(" do nothing")
		return b.String()
	}
	b.WriteString(" do update set " + strings.Join(u.set(d, layout), ", "))
	if d.softDelete >= 0 && !u.restoreDeleted {
		b.WriteString(" where " + d.visibleIn(d.insertedName()+".", hideDeleted))
	}
	return b.String()
}

// set returns the assignments for an existing row: the columns that are inserted, except for the key and the conflict columns.
func (u *upsert) set(d *descriptor, layout []byte) []string {
	var set []string
	for i := range d.columns {
		c := &d.columns[i]
		if layout[i] == fromDefault || slices.Contains(u.target.columns, c.name) {
			continue
		}
		if c.changeable() || c.roles.is(roleUpdated) || c.roles.is(roleSoftDelete) && u.restoreDeleted {
			set = append(set, c.ident+" = "+excluded+"."+c.ident)
		}
	}
	if d.version >= 0 {
		set = append(set, d.nextVersion(d.insertedName()))
	}
	if len(set) == 0 { // only an updated row is returned
		ident := d.columns[d.key[0]].ident
		set = append(set, ident+" = "+d.insertedName()+"."+ident)
	}
	return set
}

// Upsert inserts the row, or updates the existing row with the same key or conflict columns, and reports which. All columns of
// the struct are set to what the database stored.
//
// An existing row keeps its key, its conflict columns, created and softdelete, and columns with the role default whose field is
// zero (but see [SendZero]). A version increases without being compared, so the last writer wins.
//
// Through a view, and in a partitioned table, Inserted means that the row was not visible when the statement began. A row that
// another transaction inserted meanwhile then counts as Inserted although it was updated.
//
// It takes one round trip, with [DoNothing] two if the row exists. Errors: [ErrDeleted], [*InvalidError], [*ConstraintError] for
// constraints other than the target, [ErrQuery] for a target that doesn't fit the model.
func (r *Repository[T, K]) Upsert(ctx context.Context, row *T, opts ...UpsertOption) (UpsertResult, error) {
	ctx = r.named(ctx, "Upsert")
	v, err := r.validRow(ctx, "upsert", row)
	if err != nil {
		return 0, err
	}
	u, err := r.d.newUpsert(opts)
	if err != nil {
		return 0, err
	}
	if u, err = r.resolveTarget(ctx, u); err != nil {
		return 0, r.wrap("upsert", err)
	}
	var buf [layoutCapacity]byte
	layout := u.zero.fill(r.d.upsertLayout(buf[:0], v))
	if err := u.check(r.d, layout); err != nil {
		return 0, err
	}
	const maxUpsertAttempts = 3
	live, err := r.liveColumns(ctx)
	if err != nil {
		return 0, r.wrap("upsert", err)
	}
	sql, args := u.text(r.d, live, layout), r.d.insertArgs(live, make([]any, 0, len(layout)), v, layout)
	for range maxUpsertAttempts { // the conflicting row may be deleted before it is read
		var inserted bool
		fresh, err := r.one(ctx, sql, args, &inserted)
		if err == nil {
			return upsertResult(inserted), r.setReturned(ctx, "upsert", row, fresh, nil)
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return 0, r.wrapStored(ctx, "upsert", nameArgument(err, r.d.argColumns(layout)))
		}
		fresh, err = r.existingRow(ctx, live, v, u)
		if err == nil {
			return Unchanged, r.setReturned(ctx, "upsert", row, fresh, nil)
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return 0, r.wrap("upsert", err)
		}
	}
	return 0, r.wrap("upsert", ErrSuppressed)
}

// upsertLayout is insertLayout, except that updated is always set to the current time. The struct may hold the time of the last
// change.
func (d *descriptor) upsertLayout(layout []byte, v reflect.Value) []byte {
	layout = d.insertLayout(layout, v)
	if d.updated >= 0 {
		layout[d.updated] = d.timeSource()
	}
	return layout
}

func upsertResult(inserted bool) UpsertResult {
	if inserted {
		return Inserted
	}
	return Updated
}

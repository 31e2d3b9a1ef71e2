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

// UpsertOption shapes one upsert: [OnConflict], [OnConstraint], [DoNothing] or [RestoreDeleted].
type UpsertOption interface {
	applyUpsert(*upsert)
}

type upsertOptionFunc func(*upsert)

func (f upsertOptionFunc) applyUpsert(u *upsert) { f(u) }

// ConflictTarget says which rows an upsert takes for the same. It can be given to one upsert, or to a repository for all of
// its upserts; the schema check then looks for the unique index that it needs.
type ConflictTarget struct {
	columns    []string
	constraint string
	predicate  string
}

// OnConflict takes rows for the same that have the same values in these columns, on which there must be a unique index.
// Default: the key.
func OnConflict(columns ...string) ConflictTarget { return ConflictTarget{columns: columns} }

// OnConstraint takes rows for the same between which the constraint of this name decides.
func OnConstraint(name string) ConflictTarget { return ConflictTarget{constraint: name} }

// Where names the predicate of a partial unique index, in SQL: OnConflict("email").Where("deleted_at is null").
func (t ConflictTarget) Where(predicate string) ConflictTarget {
	t.predicate = predicate
	return t
}

func (t ConflictTarget) configure(s *settings) { s.conflict = &t }

func (t ConflictTarget) applyUpsert(u *upsert) { u.target = &t }

// DoNothing leaves a row alone that is there already, and brings it into the struct. With [OnConstraint] the columns of the
// constraint are asked for in the catalog, once; it must be a unique one, on columns of the model.
func DoNothing() UpsertOption { return upsertOptionFunc(func(u *upsert) { u.doNothing = true }) }

// RestoreDeleted lets an upsert update a soft-deleted row, which then has the struct's softdelete column. Without it such a row is
// left alone, and the upsert returns [ErrDeleted].
func RestoreDeleted() UpsertOption {
	return upsertOptionFunc(func(u *upsert) { u.restoreDeleted = true })
}

// upsert is what the options of one call say.
type upsert struct {
	target                    *ConflictTarget
	doNothing, restoreDeleted bool
}

// checkTarget checks a conflict target against the model.
func (d *descriptor) checkTarget(t *ConflictTarget) error {
	if t.constraint == "" && len(t.columns) == 0 {
		return &queryError{d.label + ": a conflict target needs columns or the name of a constraint"}
	}
	if t.constraint != "" && t.predicate != "" {
		return &queryError{d.label + ": a constraint has no predicate: name the columns of the partial index with OnConflict"}
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

// newUpsert reads and checks options. What it returns must not be changed: without options it is the same each time.
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
	return u, nil
}

// check refuses a row that could never meet another: a conflict column is left to the database.
func (u *upsert) check(d *descriptor, form []byte) error {
	for _, name := range u.target.columns {
		if form[d.byName[name]] == fromDefault {
			return &queryError{fmt.Sprintf("upsert %s: conflict column %q is left to the database, so that it never conflicts: "+
				"fill it, or name other columns with OnConflict", d.label, name)}
		}
	}
	return nil
}

// text returns the statement that upserts a row of this form.
func (u *upsert) text(d *descriptor, form []byte) string {
	var room [256]byte
	if u == d.statements.defaultUpsert {
		return d.statements.cache.getOrCompile(append(append(room[:0], "usual "...), form...), func() string { return u.compile(d, form) })
	}
	key := append(append(room[:0], "upsert "...), form...)
	key = strconv.AppendBool(strconv.AppendBool(key, u.doNothing), u.restoreDeleted)
	for _, name := range u.target.columns {
		key = appendPart(key, name)
	}
	key = appendPart(appendPart(append(key, '/'), u.target.constraint), u.target.predicate)
	return d.statements.cache.getOrCompile(key, func() string { return u.compile(d, form) })
}

func (u *upsert) compile(d *descriptor, form []byte) string {
	return d.compileInsert(form) + u.clause(d, form) + d.statements.returning + ", " + d.wasInserted()
}

// appendPart appends a part of a key, which nobody can mistake for two.
func appendPart(key []byte, part string) []byte {
	return append(append(strconv.AppendInt(key, int64(len(part)), 10), ':'), part...)
}

// wasInserted returns the expression that tells an inserted row from an updated one. An updated row has an xmax; rows that
// came by a partitioned table have none to ask for, but what a statement sees of that table is what was there before it.
func (d *descriptor) wasInserted() string {
	same := make([]string, len(d.key))
	for i, position := range d.key {
		ident := d.columns[position].ident
		same[i] = "before." + ident + " = " + d.table + "." + ident
	}
	return "case when tableoid = '" + strings.ReplaceAll(d.table, "'", "''") + "'::regclass then xmax = 0 else not exists (select from " +
		d.table + " as before where " + strings.Join(same, " and ") + ") end"
}

// clause returns what stands behind the values.
func (u *upsert) clause(d *descriptor, form []byte) string {
	var b strings.Builder
	b.WriteString(" on conflict ")
	if u.target.constraint != "" {
		b.WriteString("on constraint " + pgx.Identifier{u.target.constraint}.Sanitize())
	} else {
		idents := make([]string, len(u.target.columns))
		for i, name := range u.target.columns {
			idents[i] = d.columns[d.byName[name]].ident
		}
		b.WriteString("(" + strings.Join(idents, ", ") + ")")
		if u.target.predicate != "" {
			predicate := newBuilder(d, " where ")
			predicate.fragment(u.target.predicate, nil, false)
			b.WriteString(predicate.sql.String())
		}
	}
	if u.doNothing {
		b.WriteString(" do nothing")
		return b.String()
	}
	b.WriteString(" do update set " + strings.Join(u.set(d, form), ", "))
	if d.softDelete >= 0 && !u.restoreDeleted {
		c := &d.columns[d.softDelete]
		if c.typ.Kind() == reflect.Bool {
			b.WriteString(" where not " + d.table + "." + c.ident)
		} else {
			b.WriteString(" where " + d.table + "." + c.ident + " is null")
		}
	}
	return b.String()
}

// set returns what an upsert changes in a row that is there: the columns that the insert was given, but neither the key nor
// the conflict columns.
func (u *upsert) set(d *descriptor, form []byte) []string {
	var set []string
	for i := range d.columns {
		c := &d.columns[i]
		if form[i] == fromDefault || slices.Contains(u.target.columns, c.name) {
			continue
		}
		if c.changeable() || c.roles.is(roleUpdated) || c.roles.is(roleSoftDelete) && u.restoreDeleted {
			set = append(set, c.ident+" = excluded."+c.ident)
		}
	}
	if d.version >= 0 {
		ident := d.columns[d.version].ident
		set = append(set, ident+" = "+d.table+"."+ident+" + 1")
	}
	if len(set) == 0 { // a row is only returned when it is updated
		ident := d.columns[d.key[0]].ident
		set = append(set, ident+" = "+d.table+"."+ident)
	}
	return set
}

// Upsert inserts the row, or updates the one that is there with the same key or the same conflict columns, and tells which.
// Of a row that is there the key, the conflict columns, created and softdelete stay as they are, and so do columns with the
// role default that are zero in the struct; a version increases without being compared: the last writer wins. All columns
// come back into the struct.
//
// It takes one round trip; with [DoNothing] two when the row is there. Errors: [ErrDeleted], [*InvalidError],
// [*ConstraintError] for other constraints than the target, [ErrQuery] for a target that doesn't fit the model.
func (r *Repository[T, K]) Upsert(ctx context.Context, row *T, opts ...UpsertOption) (UpsertResult, error) {
	v, err := r.validRow(ctx, "upsert", row)
	if err != nil {
		return 0, err
	}
	u, err := r.d.newUpsert(opts)
	if err != nil {
		return 0, err
	}
	var room [layoutCapacity]byte
	form := r.d.upsertLayout(room[:0], v)
	if err := u.check(r.d, form); err != nil {
		return 0, err
	}
	const maxUpsertAttempts = 3
	sql, args := u.text(r.d, form), r.d.insertArgs(make([]any, 0, len(form)), v, form)
	for range maxUpsertAttempts { // the row that was in the way may be gone when it is looked for
		var inserted bool
		fresh, err := r.one(ctx, sql, args, &inserted)
		if err == nil {
			return upsertResult(inserted), r.setReturned("upsert", row, fresh, nil)
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return 0, r.wrap("upsert", nameColumn(err, r.d.argColumns(form)))
		}
		fresh, err = r.existingRow(ctx, v, u)
		if err == nil {
			return Unchanged, r.setReturned("upsert", row, fresh, nil)
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return 0, r.wrap("upsert", err)
		}
	}
	return 0, r.wrap("upsert", errSuppressed)
}

// upsertForm is insertForm, but updated always gets the time of now: the struct's is that of the last change.
func (d *descriptor) upsertLayout(form []byte, v reflect.Value) []byte {
	form = d.insertLayout(form, v)
	if d.updated >= 0 {
		form[d.updated] = d.timeSource()
	}
	return form
}

func upsertResult(inserted bool) UpsertResult {
	if inserted {
		return Inserted
	}
	return Updated
}

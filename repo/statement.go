package repo

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// statementTexts holds the SQL of a model's statements. The parts that don't depend on a call are compiled once. The same call
// always gives the same text, which the statement cache and pg_stat_statements rely on.
type statementTexts struct {
	columnList  string // the columns
	selectFrom  string // select … from …
	returning   string // returning …
	count       string // select count(*) from …
	exists      string // select exists (select from …
	byKey       string // "id" = $1
	get         string
	update      string // the version's argument follows the key's
	deleteRow   string // for Delete
	restore     string
	hardDelete  string // for HardDelete
	readVersion string // reads the version of a row
	// updateColumns are the columns that an update sets from the struct, in the order of their arguments.
	updateColumns []int
	fullLayout    []byte       // layout of an insert without zero fields
	zeroSources   []zeroSource // columns with another source if their field is zero
	defaultUpsert *upsert      // the upsert without options

	cache  statementCache // statements that depend on a call
	stages sync.Map       // positions of columns as a string to *stage
	// constraints maps names of constraints, used as conflict targets, to their columns ([]string).
	constraints sync.Map
	indexes     sync.Map // of names of indexes, used as conflict targets, to *ConflictTarget
}

func (t *statementTexts) compile(d *descriptor) {
	t.columnList = d.columnsOf("")
	t.selectFrom = "select " + t.columnList + " from " + d.table
	t.returning = " returning " + t.columnList
	t.count = "select count(*) from " + d.table
	t.exists = "select exists (select from " + d.table
	t.byKey = d.keyCondition(1)
	visible, hidden := "", ""
	if condition := d.visible(hideDeleted); condition != "" {
		visible, hidden = " and "+condition, " and "+d.visible(onlyDeleted)
	}
	t.get = t.selectFrom + " where " + t.byKey + visible
	t.hardDelete = "delete from " + d.table + " where " + t.byKey
	t.deleteRow = t.hardDelete
	if d.softDelete >= 0 {
		t.deleteRow = "update " + d.table + " set " + d.marks(true) + " where " + t.byKey + visible
		t.restore = "update " + d.table + " set " + d.marks(false) + " where " + t.byKey + hidden
	}
	if d.version >= 0 {
		t.readVersion = "select " + d.columns[d.version].ident + " from " + d.table + " where " + t.byKey + visible
	}
	for i := range d.columns {
		if d.columns[i].changeable() {
			t.updateColumns = append(t.updateColumns, i)
		}
	}
	t.update = d.compileUpdate(nil)
	t.compileLayout(d)
}

// keyCondition returns the condition that selects a row by its key, whose arguments are numbered from from.
func (d *descriptor) keyCondition(from int) string {
	var b strings.Builder
	for i, position := range d.key {
		if i > 0 {
			b.WriteString(conjunction)
		}
		b.WriteString(d.columns[position].ident + " = $" + strconv.Itoa(from+i))
	}
	return b.String()
}

// clockText returns the expression for the time of a write: now(), or the argument with the injected clock's time.
func (d *descriptor) clockText(number int) string {
	if d.clock == nil {
		return "now()"
	}
	return "$" + strconv.Itoa(number)
}

// marks returns the assignments of a soft delete or a restore. The injected clock's time is the argument after the key's.
func (d *descriptor) marks(deleted bool) string { return d.marksAt(deleted, len(d.key)+1) }

// marksAt is like marks, with the injected clock's time in the argument of this number.
func (d *descriptor) marksAt(deleted bool, number int) string {
	c, now := &d.columns[d.softDelete], d.clockText(number)
	boolean := c.typ.Kind() == reflect.Bool
	set := []string{c.ident + " = "}
	switch {
	case boolean:
		set[0] += strconv.FormatBool(deleted)
	case deleted:
		set[0] += now
	default:
		set[0] += "null"
	}
	return strings.Join(append(set, d.touches(d.table, now)...), ", ")
}

// touches returns the assignments that belong to every change of a row: the time and the next version. table is the name of the
// table in the statement.
func (d *descriptor) touches(table, now string) []string {
	var set []string
	if d.updated >= 0 {
		set = append(set, d.columns[d.updated].ident+" = "+now)
	}
	if d.version >= 0 {
		set = append(set, d.nextVersion(table))
	}
	return set
}

// nextVersion returns the assignment of the next version.
func (d *descriptor) nextVersion(table string) string {
	ident := d.columns[d.version].ident
	return ident + " = " + table + "." + ident + " + 1"
}

// usesClock reports whether marks uses the injected clock's time.
func (d *descriptor) usesClock(deleted bool) bool {
	return d.clock != nil && (d.updated >= 0 || deleted && d.columns[d.softDelete].typ.Kind() != reflect.Bool)
}

// changeable reports whether Update sets the column from the struct.
func (c *column) changeable() bool {
	return c.written() && !c.roles.is(rolePK|roleCreated|roleUpdated|roleVersion|roleSoftDelete)
}

// compileUpdate compiles the statement of Update. Its arguments are the columns, the key, the version and the clock's time.
func (d *descriptor) compileUpdate(live *liveColumns) string {
	t := &d.statements
	set := make([]string, 0, len(d.columns))
	for i, position := range t.updateColumns {
		set = append(set, d.columns[position].ident+" = $"+strconv.Itoa(i+1)+live.cast(position))
	}
	number := len(t.updateColumns) + 1
	where := " where " + d.keyCondition(number) + d.andVisible("")
	number += len(d.key)
	if d.version >= 0 {
		where += " and " + d.columns[d.version].ident + " = $" + strconv.Itoa(number)
		number++
	}
	set = append(set, d.touches(d.table, d.clockText(number))...)
	if len(set) == 0 {
		return "" // the model has only a key
	}
	return "update " + d.table + " set " + strings.Join(set, ", ") + where + t.returning
}

// Sources of a column's value in an insert. The layout of an insert has one for each of the model's columns.
const (
	fromField       = 'a' // an argument
	fromServerClock = 'n' // now()
	fromClock       = 'c' // the injected clock's time, an argument
	fromDefault     = 'd' // the column is omitted
)

// insertLayout returns the layout of the statement that inserts the row v. Rows with the same layout have the same statement. The
// memory of layout is reused.
func (d *descriptor) insertLayout(layout []byte, v reflect.Value) []byte {
	layout = append(layout[:0], d.statements.fullLayout...)
	for _, z := range d.statements.zeroSources {
		if fieldIsZero(v, &d.columns[z.position]) {
			layout[z.position] = z.source
		}
	}
	return layout
}

// zeroSource is the source of a column whose field is zero.
type zeroSource struct {
	position int
	source   byte
}

// compileLayout computes the layout of a row without zero fields, and the sources that zero fields change.
func (t *statementTexts) compileLayout(d *descriptor) {
	t.fullLayout = make([]byte, len(d.columns))
	for i := range d.columns {
		c := &d.columns[i]
		t.fullLayout[i] = fromField
		switch {
		case !c.written():
			t.fullLayout[i] = fromDefault
		case c.roles.is(roleDefault) && (!c.roles.is(rolePK) || d.newKey == nil):
			t.zeroSources = append(t.zeroSources, zeroSource{i, fromDefault})
		case c.roles.is(roleCreated | roleUpdated):
			t.zeroSources = append(t.zeroSources, zeroSource{i, d.timeSource()})
		}
	}
}

// timeSource returns the source of the time of a write.
func (d *descriptor) timeSource() byte {
	if d.clock == nil {
		return fromServerClock
	}
	return fromClock
}

// insertArgs appends the arguments of an insert with this layout.
func (d *descriptor) insertArgs(live *liveColumns, args []any, v reflect.Value, layout []byte) []any {
	for i, source := range layout {
		switch source {
		case fromField:
			args = append(args, live.arg(i, d.insertValue(v, &d.columns[i])))
		case fromClock:
			args = append(args, d.now())
		}
	}
	return args
}

// insertValue returns the argument for a column of an inserted row.
func (d *descriptor) insertValue(v reflect.Value, c *column) any {
	if value, ok := d.generatedValue(v, c); ok {
		return value
	}
	return fieldArg(v, c)
}

// generatedValue returns the value that replaces a zero key or version in an insert.
func (d *descriptor) generatedValue(v reflect.Value, c *column) (any, bool) {
	switch {
	case !c.roles.is(rolePK|roleVersion) || !fieldIsZero(v, c):
	case c.roles.is(roleVersion):
		return 1, true
	case d.newKey != nil:
		return d.newKey.make().Interface(), true
	}
	return nil, false
}

// createText returns the statement that inserts a row with this layout and returns it.
func (d *descriptor) createText(live *liveColumns, layout []byte) string {
	var buf [64]byte
	key := append(append(append(buf[:0], "create "...), layout...), live.casts...)
	return d.statements.cache.getOrCompile(key, func() string { return d.compileInsert(live, layout) + d.statements.returning })
}

// updateText returns the statement of Update, "" if the model has only a key.
func (d *descriptor) updateText(live *liveColumns) string {
	if live.casts == "" || d.statements.update == "" {
		return d.statements.update
	}
	var buf [64]byte
	key := append(append(buf[:0], "update "...), live.casts...)
	return d.statements.cache.getOrCompile(key, func() string { return d.compileUpdate(live) })
}

// compileInsert returns the part of an insert up to its values.
func (d *descriptor) compileInsert(live *liveColumns, layout []byte) string {
	var idents, values []string
	number := 0
	for i, source := range layout {
		switch source {
		case fromField, fromClock:
			number++
			values = append(values, "$"+strconv.Itoa(number)+live.cast(i))
		case fromServerClock:
			values = append(values, "now()")
		default:
			continue
		}
		idents = append(idents, d.columns[i].ident)
	}
	if len(idents) == 0 {
		return "insert into " + d.insertTarget() + " default values"
	}
	return "insert into " + d.insertTarget() + " (" + strings.Join(idents, ", ") + ") values (" + strings.Join(values, ", ") + ")"
}

// alias returns a name for another relation in a statement on the model's table, which must not be that of the table. Names of
// columns don't matter: a qualified name never means a column alone (PostgreSQL manual, "Column References").
func (d *descriptor) alias(name string) string {
	if d.path[len(d.path)-1] == name {
		return name + "_"
	}
	return name
}

// excluded is the name that ON CONFLICT gives to the row that could not be inserted.
const excluded = "excluded"

// insertTarget returns the table of an insert. A table whose name is excluded gets another one in the statement.
func (d *descriptor) insertTarget() string {
	if name := d.insertedName(); name != d.table {
		return d.table + " as " + name
	}
	return d.table
}

// insertedName returns the name of the table within an insert.
func (d *descriptor) insertedName() string {
	if name := d.alias(excluded); name != excluded {
		return name
	}
	return d.table
}

// columnsOf returns the list of the model's columns, each with this prefix.
func (d *descriptor) columnsOf(prefix string) string {
	idents := make([]string, len(d.columns))
	for i := range d.columns {
		idents[i] = prefix + d.columns[i].ident
	}
	return strings.Join(idents, ", ")
}

// clockArgs returns args, followed by the injected clock's time if it is needed.
func (d *descriptor) clockArgs(args []any, needed bool) []any {
	if !needed {
		return args
	}
	return append(args, d.now())
}

// keyColumns returns the quoted columns of the key.
func (d *descriptor) keyColumns() []string {
	idents := make([]string, 0, len(d.key))
	for _, position := range d.key {
		idents = append(idents, d.columns[position].ident)
	}
	return slices.Clip(idents)
}

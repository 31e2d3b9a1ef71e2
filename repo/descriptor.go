package repo

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// Model describes the table of a repository: its columns, its key and its conflict target. It holds no connection. The schema
// check gets the models of all repositories that are provided, including unused ones (group "repo.models"). The zero value
// describes no table.
type Model struct {
	d *descriptor
}

// ModelOf returns the model of a repository without creating the repository. The arguments are those of [New].
func ModelOf[T, K any](table string, opts ...Option) (Model, error) {
	d, err := describe(reflect.TypeFor[T](), reflect.TypeFor[K](), table, opts)
	if err != nil {
		return Model{}, err
	}
	return Model{d: d}, nil
}

// Table returns the table's name as passed to [New] or [ModelOf].
func (m Model) Table() string {
	if m.d == nil {
		return ""
	}
	return m.d.label
}

// Database returns the name of the database (see [WithDatabase]), "" for the default one.
func (m Model) Database() string {
	if m.d == nil {
		return ""
	}
	return m.d.settings.database
}

// Columns returns the names of the columns in the order of the fields.
func (m Model) Columns() []string {
	if m.d == nil {
		return nil
	}
	names := make([]string, len(m.d.columns))
	for i := range m.d.columns {
		names[i] = m.d.columns[i].name
	}
	return names
}

// String describes the model.
func (m Model) String() string {
	if m.d == nil {
		return "repo.Model"
	}
	return fmt.Sprintf("repo.Model of %v in %s", m.d.typ, m.d.label)
}

// descriptor combines a shape, the name of its table and the repository's options.
type descriptor struct {
	*shape
	settings

	label string         // the table's name as passed, for messages
	path  pgx.Identifier // its parts
	table string         // quoted
	// keyType is K. keyIndex are the fields of a composite key in the order of the shape's key, nil for a key of one column.
	keyType  reflect.Type
	keyIndex [][]int

	statements statementTexts
	// live is the catalog's description of the columns, nil until it is read (see Repository.liveColumns).
	live atomic.Pointer[liveColumns]
}

// describe compiles a model. An error reports all mistakes.
func describe(typ, key reflect.Type, table string, opts []Option) (*descriptor, error) {
	d := &descriptor{label: table, keyType: key}
	var mistaken, invalid, unnamed error
	for _, opt := range opts {
		if opt == nil {
			invalid = errors.New("repo: " + table + ": an option is nil")
			continue
		}
		opt.configure(&d.settings)
	}
	d.path, unnamed = parseTable(table)
	d.table = d.path.Sanitize()
	if d.shape, mistaken = shapeOf(typ); mistaken == nil {
		mistaken = errors.Join(d.compileKey(), d.check())
	}
	if err := errors.Join(unnamed, mistaken, invalid); err != nil {
		return nil, err
	}
	var err error
	d.statements.compile(d)
	d.statements.defaultUpsert, err = d.newUpsert(nil)
	return d, err
}

// parseTable parses a table's name, which may include the schema.
func parseTable(table string) (pgx.Identifier, error) {
	path := pgx.Identifier(strings.Split(table, "."))
	if len(path) > 2 { //nolint:mnd // schema and table
		return nil, fmt.Errorf("repo: table %q: write table or schema.table, without a database", table)
	}
	for _, part := range path {
		if err := checkName(part); err != nil || strings.TrimSpace(part) != part || strings.ContainsAny(part, `"`) {
			return nil, fmt.Errorf("repo: table %q is not a name: write table or schema.table, without quotes, each part at most %d bytes",
				table, maxName)
		}
	}
	return path, nil
}

// compileKey checks K against the model's key.
func (d *descriptor) compileKey() error {
	if len(d.key) == 1 {
		c := &d.columns[d.key[0]]
		if c.typ == d.keyType {
			return nil
		}
		if d.keyType.Kind() != reflect.Struct || isForeign(d.keyType) {
			return fmt.Errorf("repo: type %v: the key is field %s of type %v, and the repository's key type is %v: use repo.Repository[%v, %v]",
				d.typ, c.field, c.typ, d.keyType, d.typ, c.typ)
		}
	}
	names := make([]string, len(d.key))
	for i, position := range d.key {
		names[i] = d.columns[position].name
	}
	wrong := func(why string) error {
		return fmt.Errorf("repo: type %v has a key of several columns (%s), and %v doesn't fit it: %s; make it a struct with one field for each, "+
			"of the same type and column name", d.typ, strings.Join(names, ", "), d.keyType, why)
	}
	if d.keyType.Kind() != reflect.Struct || isForeign(d.keyType) {
		return wrong("it is one value")
	}
	k, err := compile(d.keyType)
	if err != nil {
		return err
	}
	if len(k.columns) != len(d.key) {
		return wrong(fmt.Sprintf("it has %d fields", len(k.columns)))
	}
	for _, position := range d.key {
		c := &d.columns[position]
		at, ok := k.byName[c.name]
		if !ok {
			return wrong("it has no field for column " + c.name)
		}
		if found := k.columns[at].typ; found != c.typ {
			return wrong(fmt.Sprintf("column %s is %v in it and %v in the model", c.name, found, c.typ))
		}
		d.keyIndex = append(d.keyIndex, k.columns[at].index)
	}
	return nil
}

// check checks the options.
func (d *descriptor) check() error {
	var mistakes []error
	addf := func(format string, args ...any) {
		mistakes = append(mistakes, fmt.Errorf("repo: "+d.label+": "+format, args...))
	}
	if target := d.conflict; target != nil {
		mistakes = append(mistakes, d.checkTarget(target))
	}
	for _, v := range d.validators {
		if v.typ != d.typ {
			addf("WithValidator checks rows of type %v, but the model is %v", v.typ, d.typ)
		}
	}
	switch {
	case d.newKey == nil:
	case len(d.key) != 1 || d.newKey.typ != d.keyType:
		addf("WithKeys generates keys of type %v, but the key has type %v", d.newKey.typ, d.keyType)
	case !d.columns[d.key[0]].written():
		addf("WithKeys generates keys, but the database generates column %s: remove one of them", d.columns[d.key[0]].name)
	}
	return errors.Join(mistakes...)
}

// column returns the column of this name.
func (d *descriptor) column(name string) (*column, error) {
	if position, ok := d.byName[name]; ok {
		return &d.columns[position], nil
	}
	return nil, &queryError{fmt.Sprintf("%s has no column %q in its model; it has %s",
		d.label, name, strings.Join(Model{d}.Columns(), ", "))}
}

// now returns the injected clock's time in the precision of the server.
func (d *descriptor) now() time.Time { return d.clock().Truncate(time.Microsecond) }

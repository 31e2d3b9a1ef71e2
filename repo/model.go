package repo

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/georgysavva/scany/v2/dbscan"
	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/internal/rowplan"
)

// role is the purpose of a column, from its tag.
type role uint16

const (
	rolePK role = 1 << iota
	roleDefault
	roleGenerated
	roleReadonly
	roleCreated
	roleUpdated
	roleVersion
	roleSoftDelete
	roleJSON
)

var roleNames = map[string]role{
	"pk": rolePK, "default": roleDefault, "generated": roleGenerated, "readonly": roleReadonly, "created": roleCreated,
	"updated": roleUpdated, "version": roleVersion, "softdelete": roleSoftDelete, "json": roleJSON,
}

func (r role) is(other role) bool { return r&other != 0 }

// combinations are the sets of more than one role that a column may have.
var combinations = []role{
	rolePK | roleDefault, rolePK | roleGenerated,
	roleJSON | roleDefault, roleJSON | roleGenerated, roleJSON | roleReadonly,
}

// column is a column of a model and the field that holds it.
type column struct {
	name  string // in the database
	ident string // the name, quoted
	field string // the field's path in Go, for messages
	index []int  // the field's index path
	typ   reflect.Type
	roles role
	// indirect is set if the path to the field leads through a pointer to a struct.
	indirect bool
	// ordinal marks the column of a stage that holds the number of the row instead of a field.
	ordinal bool
}

// written reports whether the application may write the column.
func (c *column) written() bool { return !c.roles.is(roleGenerated | roleReadonly) }

// shape describes the columns of a struct type. It is compiled once per type and never changes.
type shape struct {
	typ     reflect.Type
	columns []column
	byName  map[string]int
	key     []int
	// created, updated, version and softDelete are the positions of the columns with these roles, -1 for none.
	created, updated, version, softDelete int
	indirect                              bool           // a column is indirect
	partial                               bool           // some fields are not columns
	complete                              bool           // all fields are columns, and none is indirect
	plans                                 *rowplan.Model // the model of row plans; nil if a column is indirect
	mistakes                              []string       // in the fields, while it is compiled
}

var shapes sync.Map //nolint:gochecknoglobals // a cache, of reflect.Type to *shape

// shapeOf compiles a struct type. Errors name the type, the field and what to do.
func shapeOf(typ reflect.Type) (*shape, error) {
	if known, ok := shapes.Load(typ); ok {
		return known.(*shape), nil //nolint:forcetypeassert // nothing else is stored
	}
	s, err := compile(typ)
	if err != nil {
		return nil, err
	}
	if len(s.key) == 0 {
		return nil, fmt.Errorf("repo: type %v has no key: give the field of the primary key the role pk, as in `db:\"id,pk\"`", typ)
	}
	known, _ := shapes.LoadOrStore(typ, s)
	return known.(*shape), nil //nolint:forcetypeassert // nothing else is stored
}

// compile compiles a struct type: a model, or the type of a composite key, which has no roles.
func compile(typ reflect.Type) (*shape, error) {
	if typ.Kind() != reflect.Struct || isForeign(typ) {
		return nil, fmt.Errorf("repo: type %v can't be a model: it must be a struct whose fields are the columns", typ)
	}
	s := &shape{typ: typ, byName: map[string]int{}, created: -1, updated: -1, version: -1, softDelete: -1}
	s.walk(walk{typ: typ})
	if err := s.mistakesError(); err != nil {
		return nil, err
	}
	if len(s.columns) == 0 {
		return nil, fmt.Errorf("repo: type %v has no columns: it needs exported fields", typ)
	}
	paths := make([][]int, len(s.columns))
	for i := range s.columns {
		paths[i] = s.columns[i].index
	}
	s.plans, s.complete = rowplan.NewModel(typ, paths), !s.partial && !s.indirect
	return s, nil
}

// walk is the position of the compiler in a model.
type walk struct {
	typ      reflect.Type
	index    []int
	field    string // the path in Go, "" for the model itself
	prefix   string // of column names
	indirect bool
	above    []reflect.Type
}

func (s *shape) walk(at walk) {
	for f := range at.typ.Fields() {
		tag, tagged := f.Tag.Lookup("db")
		if tag == "-" || strings.HasPrefix(tag, "-,") {
			s.partial = true
			continue
		}
		if !f.IsExported() && !f.Anonymous {
			if tagged {
				s.mistake(at, f, "is not exported, so that its tag has no effect: export it or remove the tag")
			}
			s.partial = true
			continue
		}
		s.add(at, f, tag, tagged)
	}
}

// add adds one field: a column, or a struct whose fields are columns.
func (s *shape) add(at walk, f reflect.StructField, tag string, tagged bool) {
	name, roles, err := parseTag(tag)
	if err != nil {
		s.mistake(at, f, err.Error()) // the column is still added, without roles, to find its other mistakes
	}
	inner := f.Type
	if inner.Kind() == reflect.Pointer {
		inner = inner.Elem()
	}
	nested := inner.Kind() == reflect.Struct && !isLeaf(inner) && !roles.is(roleJSON)
	switch {
	case f.Anonymous && !nested:
		if tagged || inner.Kind() == reflect.Struct {
			s.mistake(at, f, "is embedded and can't be a column: give the field a name")
		}
		s.partial = true // scany ignores it too
		return
	case nested:
		s.descend(at, f, inner, name, roles, tagged)
		return
	case tagged && name == "":
		s.mistake(at, f, fmt.Sprintf("has a tag without a column name: write `db:%q`",
			strings.TrimSuffix(dbscan.SnakeCaseMapper(f.Name)+","+strings.TrimPrefix(tag, ","), ",")))
		fallthrough
	case !tagged:
		name = dbscan.SnakeCaseMapper(f.Name)
	}
	s.column(at, f, name, roles)
}

// descend walks into a nested or embedded struct.
func (s *shape) descend(at walk, f reflect.StructField, inner reflect.Type, name string, roles role, tagged bool) {
	pointer := f.Type.Kind() == reflect.Pointer
	if roles != 0 {
		s.mistake(at, f, "is a struct of several columns, and roles belong to one column: give them to its fields, "+
			"or store it whole as JSON with the role json")
		return
	}
	if inner == at.typ || slices.Contains(at.above, inner) {
		s.mistake(at, f, fmt.Sprintf("leads back to type %v, so that its columns would have no end: "+
			"exclude it with `db:\"-\"`, or store it whole with the role json", inner))
		return
	}
	if pointer && !f.IsExported() {
		s.mistake(at, f, "is an embedded pointer to an unexported type, which can't be set: embed the value or export the type")
		return
	}
	if tagged && name == "" && !f.Anonymous {
		s.mistake(at, f, "has a tag without a name: write the prefix of its columns, or no tag")
	}
	if name == "" && !f.Anonymous {
		name = dbscan.SnakeCaseMapper(f.Name)
	}
	s.walk(walk{
		typ: inner, index: append(slices.Clone(at.index), f.Index...), field: join(at.field, f.Name), prefix: join(at.prefix, name),
		indirect: at.indirect || pointer, above: append(slices.Clone(at.above), at.typ),
	})
}

func (s *shape) column(at walk, f reflect.StructField, name string, roles role) {
	c := column{
		name: join(at.prefix, name), field: join(at.field, f.Name), index: append(slices.Clone(at.index), f.Index...),
		typ: f.Type, roles: roles, indirect: at.indirect,
	}
	c.ident = pgx.Identifier{c.name}.Sanitize()
	if err := checkName(c.name); err != nil {
		s.mistake(at, f, err.Error())
	}
	if other, taken := s.byName[c.name]; taken {
		s.mistake(at, f, fmt.Sprintf("has the same column %q as field %s: rename one, or exclude it with `db:\"-\"`",
			c.name, s.columns[other].field))
	}
	if reason := unfit(f.Type); reason != "" {
		s.mistake(at, f, reason)
	} else if reason := misfit(f.Type, roles); reason != "" {
		s.mistake(at, f, reason)
	}
	if c.indirect && roles&^roleJSON != 0 {
		s.mistake(at, f, "has a role and is behind a pointer that may be nil: embed or nest the struct as a value")
	}
	position := len(s.columns)
	for _, single := range []struct {
		role     role
		position *int
		name     string
	}{
		{roleCreated, &s.created, "created"},
		{roleUpdated, &s.updated, "updated"},
		{roleVersion, &s.version, "version"},
		{roleSoftDelete, &s.softDelete, "softdelete"},
	} {
		if !roles.is(single.role) {
			continue
		}
		if *single.position >= 0 {
			s.mistake(at, f, fmt.Sprintf("is the second column with the role %s after field %s: a model has one",
				single.name, s.columns[*single.position].field))
		}
		*single.position = position
	}
	if roles.is(rolePK) {
		s.key = append(s.key, position)
	}
	s.indirect = s.indirect || c.indirect
	s.byName[c.name] = position
	s.columns = append(s.columns, c)
}

// mistake adds a mistake in a field. The walk goes on, so that all mistakes are reported at once.
func (s *shape) mistake(at walk, f reflect.StructField, what string) {
	s.mistakes = append(s.mistakes, "field "+join(at.field, f.Name)+" "+what)
}

// mistakesError returns all mistakes as one error, nil if there are none.
func (s *shape) mistakesError() error {
	switch len(s.mistakes) {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("repo: type %v: %s", s.typ, s.mistakes[0])
	}
	return fmt.Errorf("repo: type %v has %d mistakes:\n  - %s", s.typ, len(s.mistakes), strings.Join(s.mistakes, "\n  - "))
}

// parseTag parses a tag into the column's name and its roles. The name is valid also if the roles are not.
func parseTag(tag string) (string, role, error) {
	name, list, more := strings.Cut(tag, ",")
	if !more {
		return name, 0, nil
	}
	var roles role
	for item := range strings.SplitSeq(list, ",") {
		item = strings.TrimSpace(item)
		known, ok := roleNames[item]
		if !ok {
			return name, 0, fmt.Errorf("has the unknown role %q: use pk, default, generated, readonly, created, updated, version, "+
				"softdelete or json", item)
		}
		if roles.is(known) {
			return name, 0, fmt.Errorf("has the role %s twice", item)
		}
		roles |= known
	}
	if roles&(roles-1) != 0 && !slices.Contains(combinations, roles) {
		return name, 0, fmt.Errorf("has roles that don't go together (%s): pk may stand with default or generated, "+
			"json with default, generated or readonly", list)
	}
	return name, roles, nil
}

// maxName is the maximum length of an identifier in bytes, NAMEDATALEN - 1. The server truncates longer ones.
const maxName = 63

func checkName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("has an empty column name") //nolint:perfsprint // like its siblings
	case len(name) > maxName:
		return fmt.Errorf("has a column name of %d bytes, and PostgreSQL keeps %d: shorten it", len(name), maxName)
	case strings.ContainsRune(name, 0):
		return fmt.Errorf("has a column name with a zero byte") //nolint:perfsprint // like its siblings
	}
	return nil
}

// join joins two parts of a path as scany does.
func join(prefix, name string) string {
	if prefix == "" || name == "" {
		return prefix + name
	}
	return prefix + "." + name
}

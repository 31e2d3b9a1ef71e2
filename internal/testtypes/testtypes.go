// Package testtypes has the table of Go types and column types with which tests of repositories are generated.
package testtypes

import (
	"database/sql/driver"
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
)

// GoType is a type of a model's field.
type GoType struct {
	Type reflect.Type
	// JSON marks a field with the role json.
	JSON bool
	// Text marks a type that takes any text: how a value of another type is printed for it depends on the driver's format.
	Text bool
	// Native is a column type that holds every value of the type that can be NULL or zero.
	Native string
	// values returns values to write to a column. random returns another one.
	values func(c Column) []any
	only   []string
	random func(r *rand.Rand, c Column) any
}

// String returns the type as it is written in Go, followed by its role.
func (g GoType) String() string {
	name := strings.NewReplacer("testtypes.", "", "interface {}", "any", "github.com/jackc/pgx/v5/", "", "[16]uint8", "[16]byte",
		"[]uint8", "[]byte").Replace(g.Type.String())
	if g.JSON {
		name += ",json"
	}
	return name
}

// Values returns the values of the table for a column of this type. Each is assignable to the type.
func (g GoType) Values(c Column) []any { return g.values(c) }

// Random returns a value for a column of this type: one of the table, or another one.
func (g GoType) Random(r *rand.Rand, c Column) any {
	if values := g.values(c); g.random == nil || r.IntN(3) == 0 {
		return values[r.IntN(len(values))]
	}
	return g.random(r, c)
}

// Arg returns what hand-written code passes to pgx for a value of the type and a column of this type. pgx parses the text of a
// driver.Valuer for an array, without dimensions and lower bounds, so hand-written code passes the text.
func (g GoType) Arg(value any, c Column) (any, error) {
	if !g.JSON {
		valuer, ok := value.(driver.Valuer)
		if !ok || !strings.HasSuffix(c.Base, "[]") || reflect.ValueOf(value).Kind() == reflect.Pointer {
			return value, nil
		}
		sent, err := valuer.Value()
		if text, ok := sent.(string); ok {
			return text, err //nolint:wrapcheck // the test prints it
		}
		return value, err //nolint:wrapcheck // as above
	}
	switch v := reflect.ValueOf(value); v.Kind() {
	case reflect.Invalid:
		return nil, nil //nolint:nilnil // NULL
	case reflect.Pointer, reflect.Map, reflect.Slice:
		if v.IsNil() {
			return nil, nil //nolint:nilnil // NULL
		}
	default:
	}
	data, err := json.Marshal(value)
	return string(data), err
}

// Fits reports whether a model may have the type in a column of this type. pgx writes and reads some types in columns of other
// types in a way that depends on the format.
func (g GoType) Fits(c Column) bool {
	if c.Type == `"char"` && !g.Text {
		return false // its binary form is a byte, its text a character
	}
	return g.only == nil || slices.Contains(g.only, c.Type)
}

// restricted returns the entry for some columns only.
func (g GoType) restricted(columns ...string) GoType {
	g.only = append([]string{g.Native}, columns...)
	return g
}

// Find returns the entry of a field's type, false if there is none.
func Find(typ reflect.Type, asJSON bool) (GoType, bool) {
	for _, g := range GoTypes() {
		if g.Type == typ && g.JSON == asJSON {
			return g, true
		}
	}
	return GoType{}, false
}

// of returns an entry whose values don't depend on the column.
func of[V any](native string, random func(r *rand.Rand) V, values ...V) GoType {
	g := textual(native, func(string) []V { return nil }, values...)
	g.Text = false
	if random != nil {
		g.random = func(r *rand.Rand, _ Column) any { return random(r) }
	}
	return g
}

// textual returns an entry whose values are made of the column's texts, and some others.
func textual[V any](native string, from func(text string) []V, others ...V) GoType {
	boxed := func(values []V) []any {
		list := make([]any, len(values))
		for i := range values {
			list[i] = values[i]
		}
		return list
	}
	return GoType{
		Type: reflect.TypeFor[V](), Native: native, Text: true,
		values: func(c Column) []any {
			var list []any
			for _, text := range c.Texts {
				list = append(list, boxed(from(text))...)
			}
			return append(list, boxed(others)...)
		},
	}
}

// asJSON returns an entry with the role json.
func asJSON[V any](values ...V) GoType {
	g := of("jsonb", nil, values...)
	g.JSON = true
	return g
}

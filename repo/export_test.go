package repo

import "reflect"

// Tokens returns the kinds and texts of a fragment's tokens.
func Tokens(sql string) (kinds []int, texts []string) {
	for t := range (&fragment{sql: sql}).tokens {
		kinds, texts = append(kinds, int(t.kind)), append(texts, t.text)
	}
	return kinds, texts
}

// Render writes filters into a statement of the model and returns its text and arguments.
func Render(m Model, filters ...Filter) (string, []any, error) {
	b := newBuilder(m.d, "select from "+m.d.table)
	q := &query{deleted: withDeleted}
	for _, f := range filters {
		f.apply(q)
	}
	q.where(b)
	return b.sql.String(), b.args, b.err
}

// ParseTag reads a tag and reports whether it is one.
func ParseTag(tag string) (string, bool) {
	name, _, err := parseTag(tag)
	return name, err == nil
}

// CompileType compiles a struct type.
func CompileType(typ reflect.Type) error {
	_, err := compile(typ)
	return err
}

// Texts remembers texts.
type Texts struct{ cache textCache }

// KnownTexts is how many of them.
const KnownTexts = knownTexts

// Text returns what was written.
func (t *Texts) Text(written string) string { return t.cache.text([]byte(written)) }

// Made returns the text for a key.
func (t *Texts) Made(key string, compile func() string) string {
	return t.cache.made([]byte(key), compile)
}

var (
	// PlaceOf and PlaceArg lead to what a cursor holds and back.
	PlaceOf  = placeOf
	PlaceArg = placeArg
)

package repo_test

import (
	"context"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// note has columns of the types that hold arbitrary text.
type note struct {
	ID   string            `db:"id,pk"`
	Body string            `db:"body"`
	Raw  []byte            `db:"raw"`
	Doc  map[string]string `db:"doc,json"`
	Tags []string          `db:"tags"`
}

const noteTable = "create table notes (id text primary key, body text not null, raw bytea not null, doc jsonb not null, tags text[] not null)"

// injections break out of a literal, an identifier, a comment, an array, JSON, a pattern or a line of COPY that is not
// escaped.
var injections = []string{
	"'; drop table notes; --", `"; drop table notes; --`, "') or true; drop table notes; --", "$$; drop table notes; $$",
	"$1", "$2::int", "@name",
	"/*", "*/ or true /*", "--", `\`, `\'; drop table notes; --`, `E'\'`, "%", "_", `\%`, "{}", `{"a":1}`, `","x`, `{NULL}`, "NULL", "null",
	`\N`, `\.`, "a\tb", "a\nb", "a\r\nb", "\n\\.\n", `"`, `''`, "é", "\u202e", "\ufeff", "a;b", " ", "",
	strings.Repeat("'", 1000),
}

func noteOf(id, text string) note {
	return note{ID: id, Body: text, Raw: []byte(text), Doc: map[string]string{text: text}, Tags: []string{text, "", text}}
}

// TestInjection_StoresValuesUnchanged passes hostile text to every place that takes values.
func TestInjection_StoresValuesUnchanged(t *testing.T) {
	t.Parallel()
	m := newManager(t, noteTable)
	notes := newRepo[note, string](t, m, "notes", repo.WithStagingThreshold(2))
	var many []note
	for _, text := range injections {
		one := noteOf(text, text)
		require.NoError(t, notes.Create(t.Context(), &one), text)
		_, err := notes.Upsert(t.Context(), &one)
		require.NoError(t, err, text)
		require.NoError(t, notes.Update(t.Context(), &one), text)
		_, err = notes.Patch(t.Context(), text, []repo.Change{repo.Set("body", text), repo.SetExpr("tags", "array[$1, '', $1]", text)})
		require.NoError(t, err, text)
		many = append(many, noteOf("many "+text, text))
	}
	require.NoError(t, notes.CreateMany(t.Context(), many))
	_, err := notes.UpsertMany(t.Context(), many)
	require.NoError(t, err)
	require.NoError(t, notes.UpdateMany(t.Context(), many))
	for i := range many {
		many[i].ID = "copied " + many[i].ID
	}
	_, err = notes.CopyMany(t.Context(), many)
	require.NoError(t, err)

	for _, text := range injections {
		for _, id := range []string{text, "many " + text, "copied many " + text} {
			one, err := notes.Get(t.Context(), id)
			require.NoError(t, err)
			require.Equal(t, noteOf(id, text), *one)
		}
		for name, filter := range map[string]repo.Filter{
			"eq": repo.Eq("body", text), "in": repo.In("body", text), "prefix": repo.Prefix("body", text), "array": repo.ArrayContains("tags", text),
			"where": repo.Where("body = $1", text), "named": repo.Where("body = @name", pgx.NamedArgs{"name": text}),
		} {
			found, err := notes.Find(t.Context(), filter)
			require.NoError(t, err, "%s of %.40q", name, text)
			require.GreaterOrEqual(t, len(found), 3, "%s of %.40q", name, text)
			for _, one := range found {
				require.Contains(t, one.Body, text)
			}
		}
		require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error { return txn.AdvisoryLock(ctx, text) }))
	}
	count, err := notes.Count(t.Context())
	require.NoError(t, err)
	assert.EqualValues(t, 3*len(injections), count)
}

// TestInjection_RefusesNames passes hostile text to every place that takes names. None may reach the server as SQL.
func TestInjection_RefusesNames(t *testing.T) {
	t.Parallel()
	m := newManager(t, noteTable, "insert into notes values ('a', '', '', '{}', '{}')")
	notes := newRepo[note, string](t, m, "notes")
	for _, name := range injections {
		for use, call := range map[string]func() error{
			"filter": func() error { return second(notes.Find(t.Context(), repo.Eq(name, "x"))) },
			"order":  func() error { return second(notes.Find(t.Context(), repo.Asc(name))) },
			"orders": func() error { return second(notes.Find(t.Context(), repo.OrderBy(name))) },
			"change": func() error {
				return second(notes.UpdateWhere(t.Context(), []repo.Change{repo.Set(name, "x")}, repo.AllRows()))
			},
			"column":  func() error { return second(repo.Column[string](t.Context(), notes, name)) },
			"cursor":  func() error { return second(notes.Page(t.Context(), name+"x", 1, repo.Asc("id"))) },
			"target":  func() error { return second(notes.Upsert(t.Context(), &note{ID: "b"}, repo.OnConflict(name))) },
			"index":   func() error { return second(notes.Upsert(t.Context(), &note{ID: "b"}, repo.OnIndex(name))) },
			"where":   func() error { return second(notes.Find(t.Context(), repo.Where(name+"; drop table notes"))) },
			"table":   func() error { return useTable(t, m, name) },
			"missing": func() error { return second(notes.Get(t.Context(), name)) },
		} {
			require.Error(t, call(), "%s %.40q", use, name)
		}
	}
	count, err := notes.Count(t.Context())
	require.NoError(t, err)
	assert.EqualValues(t, 1, count)
}

// useTable reads from a table of this name.
func useTable(t *testing.T, m *txn.Manager, name string) error {
	t.Helper()
	r, err := repo.New[note, string](m, name)
	if err != nil {
		return err
	}
	return second(r.Find(t.Context()))
}

// FuzzCopiedRow compares what COPY stores with what INSERT stores.
func FuzzCopiedRow(f *testing.F) {
	for _, seed := range injections {
		f.Add(seed, []byte(seed))
	}
	f.Add("a\x00b", []byte{0, 1, 0xff})
	f.Add("\xff", []byte{})
	m := managerOf(f, fxtest.DB(f), noteTable)
	notes := newRepo[note, string](f, m, "notes")
	f.Fuzz(func(t *testing.T, text string, raw []byte) {
		if raw == nil {
			raw = []byte{} // nil is NULL
		}
		row := func(id string) note {
			return note{ID: id, Body: text, Raw: raw, Doc: map[string]string{"key": text}, Tags: []string{text}}
		}
		inserted, copied := row("inserted"), row("copied")
		_, err := notes.DeleteMany(t.Context(), []string{"inserted", "copied"})
		require.NoError(t, err)
		insertErr := notes.Create(t.Context(), &inserted)
		_, copyErr := notes.CopyMany(t.Context(), []note{copied})
		if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
			require.ErrorIs(t, insertErr, repo.ErrValue)
			require.ErrorIs(t, copyErr, repo.ErrValue)
			return
		}
		require.NoError(t, insertErr)
		require.NoError(t, copyErr)
		stored, err := notes.GetMany(t.Context(), []string{"inserted", "copied"})
		require.NoError(t, err)
		require.Len(t, stored, 2)
		stored[0].ID, stored[1].ID = "", ""
		require.Equal(t, stored[0], stored[1])
		require.Equal(t, row(""), stored[0])
	})
}

package repo_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/repo"
)

type Node struct {
	ID     int `db:"id,pk"`
	Parent *Node
}

type LeftRight struct {
	Left  int64  `db:"left_id,pk"`
	Right string `db:"right_id,pk"`
	Note  string
}

type pairKey struct {
	Right string `db:"right_id"`
	Left  int64  `db:"left_id"`
}

type hidden struct{ Inside int }

func TestModelOf_RejectsInvalidModels(t *testing.T) {
	t.Parallel()
	assertRejected := func(name string, err error, parts ...string) {
		t.Helper()
		require.Error(t, err, name)
		assert.Regexp(t, "^repo: ", err.Error(), name)
		for _, part := range parts {
			assert.ErrorContains(t, err, part, name)
		}
	}
	assertRejected("no key", modelErr[struct{ Name string }, int](), "no key", "db:\"id,pk\"")
	assertRejected("cycle", modelErr[Node, int](), "Node", "field Parent", "no end", `db:"-"`)
	assertRejected("not a struct", modelErr[int, int](), "type int", "struct")
	assertRejected("not a struct of columns", modelErr[time.Time, int](), "time.Time")
	assertRejected("pointer", modelErr[*Plain, int](), "*repo_test.Plain")
	assertRejected("empty", modelErr[struct{}, int](), "no columns")
	assertRejected("unknown role", modelErr[struct {
		ID int `db:"id,primary"`
	}, int](), "field ID", `unknown role "primary"`, "pk, default")
	assertRejected("role twice", modelErr[struct {
		ID int `db:"id,pk,pk"`
	}, int](), "role pk twice")
	assertRejected("incompatible roles", modelErr[struct {
		ID int `db:"id,pk,version"`
	}, int](), "don't go together")
	assertRejected("two versions", modelErr[struct {
		ID int `db:"id,pk"`
		A  int `db:"a,version"`
		B  int `db:"b,version"`
	}, int](), "field B", "second column with the role version", "field A")
	assertRejected("duplicate", modelErr[struct {
		ID   int `db:"id,pk"`
		Name string
		Also string `db:"name"`
	}, int](), "field Also", `"name"`, "field Name")
	assertRejected("unexported with a tag", modelErr[struct {
		ID   int    `db:"id,pk"`
		name string `db:"name"`
	}, int](), "field name", "not exported")
	assertRejected("no name", modelErr[struct {
		UserID int `db:",pk"` //nolint:tagliatelle // the missing name is the test case
	}, int](), "field UserID", `db:"user_id,pk"`)
	assertRejected("no prefix", modelErr[struct {
		ID int     `db:"id,pk"`
		A  Address `db:""` //nolint:tagliatelle // the missing name is the test case
	}, int](), "field A", "prefix")
	assertRejected("long name", modelErr[struct {
		ID int `db:"a123456789012345678901234567890123456789012345678901234567890123456789,pk"`
	}, int](), "63")
	assertRejected("channel", modelErr[struct {
		ID int `db:"id,pk"`
		C  chan int
	}, int](), "field C", "chan int")
	assertRejected("interface", modelErr[struct {
		ID int `db:"id,pk"`
		E  error
	}, int](), "field E", "interface type error")
	assertRejected("version of text", modelErr[struct {
		ID int    `db:"id,pk"`
		V  string `db:"v,version"`
	}, int](), "field V", "integer")
	assertRejected("created of text", modelErr[struct {
		ID int    `db:"id,pk"`
		C  string `db:"c,created"`
	}, int](), "time.Time")
	assertRejected("zero softdelete", modelErr[struct {
		ID int       `db:"id,pk"`
		D  time.Time `db:"d,softdelete"`
	}, int](), "*time.Time")
	assertRejected("json of text", modelErr[struct {
		ID int    `db:"id,pk"`
		J  string `db:"j,json"`
	}, int](), "field J", "remove the role")
	assertRejected("nullable key", modelErr[struct {
		ID *int `db:"id,pk"`
	}, *int](), "can be NULL")
	assertRejected("role on a struct", modelErr[struct {
		ID int     `db:"id,pk"`
		A  Address `db:"a,created"`
	}, int](), "several columns")
	assertRejected("role behind a pointer", modelErr[struct {
		*Stamps

		ID int `db:"id,pk"`
	}, int](), "Stamps.CreatedAt", "behind a pointer")
	assertRejected("unexported pointer", modelErr[struct {
		*hidden

		ID int `db:"id,pk"`
	}, int](), "field hidden", "can't be set")
	assertRejected("embedded leaf", modelErr[struct {
		time.Time

		ID int `db:"id,pk"`
	}, int](), "field Time", "give the field a name")
}

func TestModelOf_ReportsAllMistakesAtOnce(t *testing.T) {
	t.Parallel()
	_, err := repo.ModelOf[struct {
		ID     int      `db:"id,primary"`
		Name   string   `db:"name"`
		Other  string   `db:"name"`
		Bad    chan int `db:"bad,softdelete"`
		Nested struct {
			At string `db:"at,created"`
		}
		lower int `db:"lower"`
	}, int64]("a.b.c", nil)
	require.Error(t, err)
	for _, part := range []string{
		`repo: table "a.b.c"`, "has 5 mistakes:", `field ID has the unknown role "primary"`, `field Other has the same column "name"`,
		"field Bad has type chan int", "field Nested.At has the role created", "field lower is not exported", "an option is nil",
	} {
		assert.Equal(t, 1, strings.Count(err.Error(), part), "%s in %v", part, err)
	}
	require.NotContains(t, err.Error(), "has no key", "the key's tag is a mistake already")

	_, err = repo.ModelOf[User, string]("users", repo.OnConflict("nothing"), repo.WithKeys(func() int { return 1 }),
		repo.WithValidator(func(context.Context, *Plain) error { return nil }))
	for _, part := range []string{"the repository's key type is string", `no column "nothing"`, "WithKeys generates", "WithValidator checks"} {
		require.ErrorContains(t, err, part)
	}
	require.ErrorIs(t, err, repo.ErrQuery)
}

func modelErr[T, K any]() error {
	_, err := repo.ModelOf[T, K]("t")
	return err
}

func TestModelOf_RejectsTheWrongKeyType(t *testing.T) {
	t.Parallel()
	require.ErrorContains(t, modelErr[User, string](), "the repository's key type is string: use repo.Repository[repo_test.User, uuid.UUID]")
	require.ErrorContains(t, modelErr[LeftRight, int64](), "left_id, right_id")
	require.ErrorContains(t, modelErr[LeftRight, struct {
		Left int64 `db:"left_id"`
	}](), "it has 1 fields")
	require.ErrorContains(t, modelErr[LeftRight, struct {
		Left  int64  `db:"left_id"`
		Other string `db:"other"`
	}](), "no field for column right_id")
	require.ErrorContains(t, modelErr[LeftRight, struct {
		Left  int64 `db:"left_id"`
		Right int   `db:"right_id"`
	}](), "column right_id is int in it and string in the model")
	require.ErrorContains(t, modelErr[LeftRight, struct {
		Left  int64  `db:"left_id,zzz"`
		Right string `db:"right_id"`
	}](), "unknown role")
	require.NoError(t, modelErr[LeftRight, pairKey]())
}

func TestModelOf_ValidatesTableNames(t *testing.T) {
	t.Parallel()
	for _, table := range []string{"", "a.b.c", `a"b`, "a.", " a", "a\x00"} {
		_, err := repo.ModelOf[User, uuid.UUID](table)
		require.ErrorContains(t, err, "repo: table", table)
	}
	model, err := repo.ModelOf[User, uuid.UUID]("app.users", repo.WithDatabase("reporting"))
	require.NoError(t, err)
	assert.Equal(t, "app.users", model.Table())
	assert.Equal(t, "reporting", model.Database())
	assert.Equal(t, "repo.Model of repo_test.User in app.users", model.String())
	assert.Equal(t, []string{
		"created_at", "updated_at", "deleted_at",
		"id", "email", "name", "age", "status", "settings", "tags", "address.street", "address.city", "shout", "version",
	}, model.Columns())
	assert.Empty(t, repo.Model{}.Table()+repo.Model{}.Database())
	assert.Empty(t, repo.Model{}.Columns())
	assert.Equal(t, "repo.Model", repo.Model{}.String())
}

func TestNew_RejectsInvalidOptions(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	for want, opt := range map[string]repo.Option{
		"an option is nil":                nil,
		`no column "nothing"`:             repo.OnConflict("nothing"),
		"named twice":                     repo.OnConflict("email", "email"),
		"needs columns":                   repo.OnConflict(),
		"a constraint has no predicate":   repo.OnConstraint("x").Where("true"),
		"doesn't close":                   repo.OnConflict("email").Where("("),
		"WithValidator checks rows of":    repo.WithValidator(func(context.Context, *Plain) error { return nil }),
		"WithKeys generates keys of type": repo.WithKeys(func() int { return 1 }),
		"differs from the transaction":    repo.WithDatabase("reporting"),
	} {
		_, err := repo.New[User, uuid.UUID](m, "users", opt)
		require.ErrorContains(t, err, want)
	}
	_, err := repo.New[Plain, int64](m, "plain", repo.WithKeys(func() int64 { return 1 }))
	require.ErrorContains(t, err, "the database generates column id")
	_, err = repo.New[Plain, int64](nil, "plain")
	require.ErrorContains(t, err, "*txn.Manager is nil")
}

func TestRepository_SupportsCompositeKeys(t *testing.T) {
	t.Parallel()
	m := newManager(t, "create table pairs (left_id bigint, right_id text, note text not null, primary key (left_id, right_id))")
	r := newRepo[LeftRight, pairKey](t, m, "pairs")
	ctx := t.Context()
	rows := []LeftRight{{Left: 1, Right: "a", Note: "x"}, {Left: 1, Right: "b"}, {Left: 2, Right: "a"}}
	require.NoError(t, r.CreateMany(ctx, rows))
	got, err := r.Get(ctx, pairKey{Left: 1, Right: "b"})
	require.NoError(t, err)
	assert.Equal(t, rows[1], *got)
	assert.Equal(t, pairKey{Left: 1, Right: "b"}, r.KeyOf(got))
	got.Note = "changed"
	require.NoError(t, r.Update(ctx, got))
	got, err = r.Get(ctx, pairKey{Left: 1, Right: "b"}, repo.ForShare())
	require.NoError(t, err)
	assert.Equal(t, "changed", got.Note)
	require.NoError(t, r.Delete(ctx, r.KeyOf(got)))
	count, err := r.Count(ctx)
	require.NoError(t, err)
	assert.EqualValues(t, 2, count)
	assert.Equal(t, "repo.Repository[repo_test.LeftRight, repo_test.pairKey] of pairs", r.String())
}

type Profile struct {
	Bio   string
	Links []string
}

type Base struct{ Note string }

type Nested struct {
	*Base

	ID      int `db:"id,pk"`
	Profile *Profile
	Doc     *Profile       `db:"doc,json"`
	Tree    map[string]any `db:"tree,json"`
	Any     any
}

func TestRepository_NestedPointerIsNilForNulls(t *testing.T) {
	t.Parallel()
	m := newManager(t, `create table nested (id int primary key, "profile.bio" text, "profile.links" text[], note text, doc jsonb,
		tree jsonb, "any" int)`)
	r := newRepo[Nested, int](t, m, "nested")
	ctx := t.Context()
	empty := &Nested{ID: 1}
	require.NoError(t, r.Create(ctx, empty))
	assert.Equal(t, &Nested{ID: 1}, empty)
	full := &Nested{
		ID: 2, Profile: &Profile{Bio: "b", Links: []string{"l"}}, Base: &Base{Note: "n"}, Doc: &Profile{Bio: "d"},
		Tree: map[string]any{"a": []any{"b", json.Number("1.5")}}, Any: int32(5),
	}
	want := *full
	require.NoError(t, r.Create(ctx, full))
	assert.Equal(t, &want, full)
	full.Profile, full.Doc = nil, nil
	require.NoError(t, r.Update(ctx, full))
	assert.Nil(t, full.Profile)
	assert.Nil(t, full.Doc)

	_, err := m.Exec(ctx, `update nested set "profile.links" = '{x}' where id = 1`)
	require.NoError(t, err)
	_, err = r.Get(ctx, 1)
	require.ErrorContains(t, err, `NULL of column "profile.bio" into field Profile.Bio`)
	_, err = m.Exec(ctx, `update nested set note = 'y', "profile.links" = null where id = 1`)
	require.NoError(t, err)
	adopted := &Nested{ID: 1, Profile: &Profile{Bio: "gone"}}
	_, err = r.Upsert(ctx, adopted, repo.DoNothing())
	require.NoError(t, err)
	assert.Equal(t, "y", adopted.Note)
	assert.Equal(t, &Profile{}, adopted.Profile, "the caller's struct is kept and cleared")
}

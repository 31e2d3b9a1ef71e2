package repo_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/repo"
)

// Typed has columns that refuse some values of their fields.
type Typed struct {
	ID     int64 `db:"id,pk"`
	Status string
	Small  int64
	Short  string
	Attrs  map[string]*string `db:"attrs"`
}

//nolint:dupword // the column status has the type status
const typedDDL = `create extension hstore; create type status as enum ('new', 'paid');
	create table typed (id integer primary key, status status not null, small smallint not null, short varchar(3) not null, attrs hstore);
	create table idents (id uuid primary key)`

type Ident struct {
	ID   string `db:"id,pk"`
	Name string `db:"-"`
}

const hugeKey = int64(3_000_000_000)

func each[T any](rows []T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, row := range rows {
			if !yield(row, nil) {
				return
			}
		}
	}
}

// Every way to send a value names the column and the field, and never shows the value.
func TestValueError_NamesColumnAndFieldInEveryCall(t *testing.T) {
	t.Parallel()
	m := newManager(t, typedDDL)
	typed, idents := newRepo[Typed, int64](t, m, "typed"), newRepo[Ident, string](t, m, "idents")
	secret, valid := "hush-hush", Typed{ID: 1, Status: "new"}
	require.NoError(t, typed.Create(t.Context(), &valid))
	attrs := map[string]*string{"a": &secret}
	many := func(bad Typed, n int) []Typed {
		rows := make([]Typed, n)
		for i := range rows {
			rows[i] = Typed{ID: int64(10 + i), Status: "new"}
		}
		bad.ID = int64(10 + n - 1)
		rows[n-1] = bad
		return rows
	}
	batch := func(ctx context.Context, add func(*repo.Batch)) error {
		var b repo.Batch
		typed.In(&b).Count()
		add(&b)
		return b.Send(ctx)
	}
	wide := Typed{ID: 1, Status: "new", Small: 40_000}
	tests := map[string]struct {
		column string
		code   string
		index  int
		call   func(ctx context.Context) error
	}{
		"Get, out of range":     {"id", "", -1, func(ctx context.Context) error { _, err := typed.Get(ctx, hugeKey); return err }},
		"Get with a filter":     {"id", "", -1, func(ctx context.Context) error { _, err := typed.Get(ctx, hugeKey, repo.Eq("small", 1)); return err }},
		"Get, malformed":        {"id", "22P02", -1, func(ctx context.Context) error { _, err := idents.Get(ctx, secret); return err }},
		"GetMany":               {"id", "", -1, func(ctx context.Context) error { _, err := typed.GetMany(ctx, []int64{1, hugeKey}); return err }},
		"GetMany, malformed":    {"id", "22P02", -1, func(ctx context.Context) error { _, err := idents.GetMany(ctx, []string{secret}); return err }},
		"Delete":                {"id", "", -1, func(ctx context.Context) error { return typed.Delete(ctx, hugeKey) }},
		"DeleteMany":            {"id", "", 1, func(ctx context.Context) error { _, err := typed.DeleteMany(ctx, []int64{1, hugeKey}); return err }},
		"DeleteMany, malformed": {"id", "22P02", 0, func(ctx context.Context) error { _, err := idents.DeleteMany(ctx, []string{secret}); return err }},
		"Find":                  {"status", "22P02", -1, func(ctx context.Context) error { _, err := typed.Find(ctx, repo.Eq("status", secret)); return err }},
		"Find, fragment": {"status", "22P02", -1, func(ctx context.Context) error {
			_, err := typed.Find(ctx, repo.Where("status = $1", secret))
			return err
		}},
		"Find, list": {"status", "22P02", -1, func(ctx context.Context) error { _, err := typed.Find(ctx, repo.In("status", secret)); return err }},
		"Count":      {"small", "", -1, func(ctx context.Context) error { _, err := typed.Count(ctx, repo.Eq("small", 40_000)); return err }},
		"All":        {"small", "", -1, func(ctx context.Context) error { return lastError(typed.All(ctx, repo.Lt("small", 40_000))) }},
		"Patch": {"status", "22P02", -1, func(ctx context.Context) error {
			_, err := typed.Patch(ctx, 1, []repo.Change{repo.Set("status", secret)})
			return err
		}},
		"Patch, not encodable": {"attrs", "", -1, func(ctx context.Context) error {
			_, err := typed.Patch(ctx, 1, []repo.Change{repo.Set("attrs", attrs)})
			return err
		}},
		"UpdateWhere": {"small", "", -1, func(ctx context.Context) error {
			_, err := typed.UpdateWhere(ctx, []repo.Change{repo.Set("small", 40_000)}, repo.AllRows())
			return err
		}},
		"Update":                {"small", "", -1, func(ctx context.Context) error { row := wide; return typed.Update(ctx, &row) }},
		"Create":                {"small", "", -1, func(ctx context.Context) error { row := wide; row.ID = 2; return typed.Create(ctx, &row) }},
		"Create, refused":       {"status", "22P02", -1, func(ctx context.Context) error { return typed.Create(ctx, &Typed{ID: 2, Status: secret}) }},
		"Create, not encodable": {"attrs", "", -1, func(ctx context.Context) error { return typed.Create(ctx, &Typed{ID: 2, Status: "new", Attrs: attrs}) }},
		"Upsert":                {"small", "", -1, func(ctx context.Context) error { row := wide; _, err := typed.Upsert(ctx, &row); return err }},
		"Upsert, refused": {"status", "22P02", -1, func(ctx context.Context) error {
			_, err := typed.Upsert(ctx, &Typed{ID: 2, Status: secret})
			return err
		}},
		"batch, Get":            {"id", "", -1, func(ctx context.Context) error { return batch(ctx, func(b *repo.Batch) { typed.In(b).Get(hugeKey) }) }},
		"batch, Get, malformed": {"id", "22P02", -1, func(ctx context.Context) error { return batch(ctx, func(b *repo.Batch) { idents.In(b).Get(secret) }) }},
		"batch, Create": {"small", "", -1, func(ctx context.Context) error {
			row := wide
			return batch(ctx, func(b *repo.Batch) { typed.In(b).Create(&row) })
		}},
		"batch, Create, refused": {"status", "22P02", -1, func(ctx context.Context) error {
			return batch(ctx, func(b *repo.Batch) { typed.In(b).Create(&Typed{ID: 2, Status: secret}) })
		}},
		"CreateMany of 300 texts": {"", "22001", 299, func(ctx context.Context) error {
			return typed.CreateMany(ctx, many(Typed{Status: "new", Short: "long"}, 300))
		}},
	}
	type test = struct {
		column string
		code   string
		index  int
		call   func(ctx context.Context) error
	}
	for _, n := range []int{2, 5, 40, 300} {
		tests[fmt.Sprint("CreateMany of ", n)] = test{"small", "", n - 1, func(ctx context.Context) error {
			return typed.CreateMany(ctx, many(wide, n))
		}}
		tests[fmt.Sprint("CreateMany, not encodable, of ", n)] = test{"attrs", "", n - 1, func(ctx context.Context) error {
			return typed.CreateMany(ctx, many(Typed{Status: "new", Attrs: attrs}, n))
		}}
		tests[fmt.Sprint("CreateMany, refused, of ", n)] = test{"status", "22P02", n - 1, func(ctx context.Context) error {
			return typed.CreateMany(ctx, many(Typed{Status: secret}, n))
		}}
		tests[fmt.Sprint("UpsertMany of ", n)] = test{"small", "", n - 1, func(ctx context.Context) error {
			_, err := typed.UpsertMany(ctx, many(wide, n))
			return err
		}}
		tests[fmt.Sprint("UpdateMany of ", n)] = test{"small", "", n - 1, func(ctx context.Context) error {
			return typed.UpdateMany(ctx, many(wide, n))
		}}
		tests[fmt.Sprint("Import of ", n)] = test{"small", "", n - 1, func(ctx context.Context) error {
			_, err := typed.Import(ctx, each(many(wide, n)))
			return err
		}}
		tests[fmt.Sprint("CopyMany, not encodable, of ", n)] = test{"attrs", "", n - 1, func(ctx context.Context) error {
			_, err := typed.CopyMany(ctx, many(Typed{Status: "new", Attrs: attrs}, n))
			return err
		}}
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check := func(err error) {
				t.Helper()
				var value *repo.ValueError
				require.ErrorAs(t, err, &value)
				require.ErrorIs(t, err, repo.ErrValue)
				assert.Equal(t, test.column, value.Column, err)
				assert.Equal(t, test.code, value.Code, err)
				assert.NotContains(t, err.Error(), secret)
				assert.NotContains(t, err.Error(), "$")
				assert.NotContains(t, err.Error(), "argument")
				if test.column == "attrs" {
					assert.Equal(t, "hstore", value.Type)
					assert.Equal(t, "Attrs", value.Field)
					assert.Contains(t, err.Error(), `pgfx.WithTypes("hstore")`)
				}
				if test.column == "small" {
					assert.Contains(t, err.Error(), `column "small" (field Small) can't be sent as type smallint`)
				}
				var row *repo.RowError
				if test.index >= 0 {
					require.ErrorAs(t, err, &row)
					assert.Equal(t, test.index, row.Index, err)
					assert.Equal(t, test.column, row.Column, err)
				}
			}
			check(test.call(t.Context()))
			check(m.Do(t.Context(), test.call))
		})
	}
}

func lastError[T any](rows iter.Seq2[*T, error]) (last error) {
	for _, err := range rows {
		last = err
	}
	return last
}

func TestValueError_Text(t *testing.T) {
	t.Parallel()
	m := newManager(t, typedDDL)
	typed, idents := newRepo[Typed, int64](t, m, "typed"), newRepo[Ident, string](t, m, "idents")
	_, err := typed.Patch(t.Context(), 1, []repo.Change{repo.Set("status", "bogus")})
	require.EqualError(t, err, `repo: patch typed: the server refused the value for column "status" (field Status) (SQLSTATE 22P02)`)
	pg, ok := errors.AsType[*pgconn.PgError](err)
	require.True(t, ok)
	assert.Equal(t, "22P02", pg.Code)
	_, err = idents.Get(t.Context(), "nonsense")
	require.EqualError(t, err, `repo: read idents: the server refused the value for column "id" (field ID) (SQLSTATE 22P02)`)
	require.NotErrorIs(t, err, repo.ErrNotFound)
	_, err = typed.Get(t.Context(), hugeKey)
	require.EqualError(t, err, `repo: read typed: the value for column "id" (field ID) can't be sent as type integer`)
	err = typed.Create(t.Context(), &Typed{ID: 1, Status: "new", Short: "long"})
	require.EqualError(t, err, `repo: create typed: value too long for type character varying(3) (SQLSTATE 22001)`)
	_, err = typed.UpdateWhere(t.Context(), []repo.Change{repo.SetExpr("small", "1 / $1::int", 0)}, repo.AllRows())
	require.EqualError(t, err, "repo: update typed: division by zero (SQLSTATE 22012)")
	_, err = repo.Query[int](t.Context(), m, "select 1 / $1::int", 0)
	require.EqualError(t, err, "repo: query: division by zero (SQLSTATE 22012)")
	require.ErrorIs(t, err, repo.ErrValue)
	_, err = repo.Query[uuid.UUID](t.Context(), m, "select $1::uuid", "nonsense")
	require.EqualError(t, err, "repo: query: the server refused the argument for $1 (SQLSTATE 22P02)")
	_, err = repo.Query[int](t.Context(), m, "select $1::int", hugeKey)
	require.EqualError(t, err, "repo: query: the argument for $1 can't be sent as type integer")
	_, err = repo.Query[string](t.Context(), m, "select $1::hstore::text", map[string]*string{})
	require.ErrorContains(t, err, `pgfx.WithTypes("hstore")`)
}

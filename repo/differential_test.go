package repo_test

import (
	"encoding/json"
	"math"
	"math/big"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/georgysavva/scany/v2/pgxscan"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// Everything has a field of each type that PostgreSQL and Go have in common.
type Everything struct {
	ID     int64 `db:"id,pk"`
	Text   string
	TextN  *string
	Bool   bool
	BoolN  *bool
	Small  int16
	Int    int32
	Big    int64
	BigN   *int64
	Real   float32
	Double float64
	Num    pgtype.Numeric
	Bytes  []byte
	UUID   uuid.UUID
	UUIDN  *uuid.UUID `db:"uuid_n"`
	At     time.Time
	AtN    *time.Time
	Plain  pgtype.Timestamp
	Day    pgtype.Date
	Span   pgtype.Range[pgtype.Int4]
	Ints   []int32
	Texts  []string
	Doc    map[string]any `db:"doc,json"`
	Raw    json.RawMessage
	Inner  Address
	Status string
}

const everythingDDL = `create table everything (id bigint primary key, "text" text not null, text_n text, bool boolean not null,
	bool_n boolean, small smallint not null, "int" integer not null, big bigint not null, big_n bigint, "real" real not null,
	"double" double precision not null, num numeric, bytes bytea, "uuid" uuid not null, uuid_n uuid, at timestamptz not null,
	at_n timestamptz, plain timestamp, day date, span int4range, ints integer[], texts text[], doc jsonb, raw jsonb,
	"inner.street" text not null, "inner.city" text, status state not null)`

// pick returns a random element of values.
func pick[V any](r *rand.Rand, values ...V) V { return values[r.IntN(len(values))] }

// maybe returns a pointer to value, or nil with a probability of 33 %.
func maybe[V any](r *rand.Rand, value V) *V {
	if r.IntN(3) == 0 {
		return nil
	}
	return &value
}

func randomText(r *rand.Rand) string {
	return pick(r, "", " ", "plain", "ünïcödé 漢字 🎈", `quote ' " \ $1 ? @x`, "line\nbreak\ttab", "null", strings.Repeat("long", 500),
		"{}", "%_")
}

func randomTime(r *rand.Rand) time.Time {
	return pick(r, time.Time{}, time.Unix(0, 0), time.Unix(r.Int64N(4e9), r.Int64N(1e9)),
		time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC),
		time.Date(1, 1, 1, 0, 0, 0, 1000, time.FixedZone("x", 3600*5)), time.Date(1800, 2, 28, 1, 2, 3, 4, time.UTC))
}

func randomEverything(r *rand.Rand, id int64) Everything {
	return Everything{
		ID: id, Text: randomText(r), TextN: maybe(r, randomText(r)), Bool: r.IntN(2) == 0, BoolN: maybe(r, true),
		Small: pick[int16](r, 0, math.MinInt16, math.MaxInt16), Int: pick[int32](r, 0, math.MinInt32, math.MaxInt32, -1),
		Big: pick(r, 0, math.MinInt64, math.MaxInt64, r.Int64()), BigN: maybe(r, r.Int64()),
		Real:   pick(r, 0, float32(math.Inf(1)), math.MaxFloat32, math.SmallestNonzeroFloat32, r.Float32()),
		Double: pick(r, 0, math.Inf(-1), math.MaxFloat64, math.SmallestNonzeroFloat64, r.NormFloat64(), math.Copysign(0, -1)),
		Num: pick(r, pgtype.Numeric{}, pgtype.Numeric{NaN: true, Valid: true},
			pgtype.Numeric{Int: big.NewInt(r.Int64()), Exp: -9, Valid: true}),
		Bytes: pick(r, nil, []byte{}, []byte{0, 255, '\\'}), UUID: pick(r, uuid.UUID{}, uuid.New()), UUIDN: maybe(r, uuid.New()),
		At: randomTime(r), AtN: maybe(r, randomTime(r)),
		Plain: pick(r, pgtype.Timestamp{}, pgtype.Timestamp{Time: time.Unix(r.Int64N(4e9), 5000).UTC(), Valid: true},
			pgtype.Timestamp{InfinityModifier: pgtype.Infinity, Valid: true}),
		Day: pick(r, pgtype.Date{}, pgtype.Date{Time: time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC), Valid: true}),
		Span: pick(r, pgtype.Range[pgtype.Int4]{}, pgtype.Range[pgtype.Int4]{LowerType: pgtype.Empty, UpperType: pgtype.Empty, Valid: true},
			pgtype.Range[pgtype.Int4]{
				Lower: pgtype.Int4{Int32: 1, Valid: true}, LowerType: pgtype.Inclusive, UpperType: pgtype.Unbounded, Valid: true,
			}),
		Ints: pick(r, nil, []int32{}, []int32{1, math.MinInt32}), Texts: pick(r, nil, []string{}, []string{randomText(r), `a,b"{}`, ""}),
		Doc:   pick(r, nil, map[string]any{}, map[string]any{"a": []any{1.5, nil, "x"}, "ü": map[string]any{"b": true}}),
		Raw:   pick(r, nil, json.RawMessage(`{"a": [1, null]}`), json.RawMessage(`"text"`)),
		Inner: Address{Street: randomText(r), City: maybe(r, randomText(r))}, Status: pick(r, "sad", "happy"),
	}
}

// This test writes random rows with each write method and reads them with each read method. The results must equal rows that
// hand-written SQL has inserted and scany has read. The environment variable SEED repeats an earlier run.
func TestRepository_MatchesHandWrittenSQLAndScany(t *testing.T) {
	t.Parallel()
	r := randomSource(t)
	m := newManager(t, "create type state as enum ('sad', 'happy')", everythingDDL)
	all := newRepo[Everything, int64](t, m, "everything")
	found, err := repo.CheckSchema(t.Context(), m, all.Model())
	require.NoError(t, err)
	require.Empty(t, errorsOf(found))
	const n = 200
	for round := range 5 {
		written := make([]Everything, n)
		for i := range written {
			written[i] = randomEverything(r, int64(i))
		}
		insertWithPgx(t, m, written)
		want := readWithScany(t, m)
		_, err := all.DeleteWhere(t.Context(), repo.AllRows())
		require.NoError(t, err)
		returned := writeWith(t, all, round, written)
		requireSameRows(t, want, readWithScany(t, m))
		if returned != nil {
			requireSameRows(t, want, returned)
		}
		requireSameRows(t, want, readWith(t, all, round, want))
		_, err = all.DeleteWhere(t.Context(), repo.AllRows())
		require.NoError(t, err)
	}
}

// insertWithPgx inserts rows with hand-written SQL and passes field values unchanged.
func insertWithPgx(t *testing.T, m *txn.Manager, rows []Everything) {
	t.Helper()
	batch := &pgx.Batch{}
	for _, row := range rows {
		var doc any
		if row.Doc != nil {
			doc = row.Doc
		}
		batch.Queue(`insert into everything values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
			$20, $21, $22, $23, $24, $25, $26, $27)`,
			row.ID, row.Text, row.TextN, row.Bool, row.BoolN, row.Small, row.Int, row.Big, row.BigN, row.Real, row.Double, row.Num, row.Bytes,
			row.UUID, row.UUIDN, row.At, row.AtN, row.Plain, row.Day, row.Span, row.Ints, row.Texts, doc, row.Raw,
			row.Inner.Street, row.Inner.City, row.Status)
	}
	require.NoError(t, m.SendBatch(t.Context(), batch).Close())
}

func readWithScany(t *testing.T, m *txn.Manager) []Everything {
	t.Helper()
	var rows []Everything
	require.NoError(t, pgxscan.Select(t.Context(), m, &rows, "select * from everything order by id"))
	return rows
}

// writeWith writes rows with one of the repository's methods. It returns the rows after the write, or nil if the method returns none.
func writeWith(t *testing.T, all *repo.Repository[Everything, int64], method int, rows []Everything) []Everything {
	t.Helper()
	ctx := t.Context()
	switch method {
	case 0:
		require.NoError(t, all.CreateMany(ctx, rows))
	case 1:
		for i := range rows {
			require.NoError(t, all.Create(ctx, &rows[i]))
		}
	case 2:
		_, err := all.UpsertMany(ctx, rows)
		require.NoError(t, err)
	case 3: // Import returns no rows
		_, err := all.Import(ctx, sequence(len(rows), func(i int) (Everything, error) { return rows[i], nil }))
		require.NoError(t, err)
		return nil
	default:
		blank := make([]Everything, len(rows))
		for i := range blank {
			blank[i] = Everything{ID: rows[i].ID, Status: "sad"}
		}
		require.NoError(t, all.CreateMany(ctx, blank))
		require.NoError(t, all.UpdateMany(ctx, rows))
	}
	return rows
}

// readWith reads rows with one of the repository's methods.
func readWith(t *testing.T, all *repo.Repository[Everything, int64], method int, rows []Everything) []Everything {
	t.Helper()
	ctx := t.Context()
	keys := make([]int64, len(rows))
	for i := range rows {
		keys[i] = rows[i].ID
	}
	var got []Everything
	switch method {
	case 0:
		var err error
		got, err = all.Find(ctx, repo.Asc("id"))
		require.NoError(t, err)
	case 1:
		var err error
		got, err = all.GetMany(ctx, keys)
		require.NoError(t, err)
	case 2:
		for row, err := range all.All(ctx, repo.Asc("id")) {
			require.NoError(t, err)
			got = append(got, *row)
		}
	default:
		for _, key := range keys {
			row, err := all.Get(ctx, key)
			require.NoError(t, err)
			got = append(got, *row)
		}
	}
	return got
}

// requireSameRows compares rows field by field, so that a failure names the field.
func requireSameRows(t *testing.T, want, got []Everything) {
	t.Helper()
	require.Len(t, got, len(want))
	for i := range want {
		a, b := reflect.ValueOf(want[i]), reflect.ValueOf(got[i])
		for j := range a.NumField() {
			require.Equal(t, a.Field(j).Interface(), b.Field(j).Interface(), "row %d, field %s", i, a.Type().Field(j).Name)
		}
	}
}

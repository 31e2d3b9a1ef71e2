package repo_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

type rank int16

// Sent has fields of common types. Some columns have types other than the fields' default.
type Sent struct {
	ID     uuid.UUID `db:"id,pk"`
	Text   string
	Code   string
	Note   *string
	Number int
	Rank   rank
	Share  float64
	On     bool
	Doc    json.RawMessage
	Strict json.RawMessage
	Data   []byte
	At     time.Time
	Day    time.Time
	Lists  []int32
	Set    *Settings `db:"set,json"`
}

var sentDDL = []string{
	"create domain code as text check (value <> '')", "create domain few as integer", "create domain document as jsonb",
	`create table sent (id uuid primary key, "text" text, code code, note varchar(99), number few, rank numeric, share double precision,
		"on" boolean, doc jsonb, strict document, data bytea, at timestamptz, day date, lists integer[], "set" jsonb)`,
}

func sentRows() []Sent {
	rows := make([]Sent, 6)
	for i := range rows {
		at := time.Date(2026, 1, 2, 3, 4, 5, 678_900_000, time.FixedZone("x", 3600)).AddDate(0, 0, i)
		rows[i] = Sent{
			ID: uuid.UUID{byte(i)}, Text: strings.Repeat("t", i), Code: "c" + strconv.Itoa(i), Number: -i, Rank: rank(i), Share: float64(i) / 3,
			On: i%2 == 0, At: at, Day: at, Set: &Settings{Theme: "x"},
		}
		if i%2 == 0 {
			note := "note " + strconv.Itoa(i)
			rows[i].Note, rows[i].Data, rows[i].Lists = &note, []byte{0, byte(i)}, []int32{1, 2}
			rows[i].Doc, rows[i].Strict = json.RawMessage(`{"a": [1, null]}`), json.RawMessage(`"text"`)
		}
	}
	return rows
}

// arguments is a tracer that records the arguments of statements.
type arguments struct {
	counter

	seen []any
}

func (a *arguments) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seen = append(a.seen, data.Args...)
	return ctx
}

// This test writes rows one by one in each exec mode. The stored rows must equal those of CreateMany.
func TestWrites_StoreTheSameInEveryExecMode(t *testing.T) {
	t.Parallel()
	stored := func(t *testing.T, m *txn.Manager) []string {
		t.Helper()
		list, err := repo.Pluck[string](t.Context(), m, "select s::text from sent s order by id")
		require.NoError(t, err)
		return list
	}
	m := newManager(t, sentDDL...)
	require.NoError(t, newRepo[Sent, uuid.UUID](t, m, "sent").CreateMany(t.Context(), sentRows()))
	want := stored(t, m)
	for name, mode := range map[string]struct {
		config pgfx.Config
		opts   []pgfx.Option
		inside bool
		traced bool
	}{
		"default":          {},
		"in a transaction": {inside: true},
		"with a tracer":    {traced: true},
		"stock codecs":     {config: pgfx.Config{DisableFastCodecs: true}},
		"cache describe":   {config: pgfx.Config{ExecMode: pgfx.ExecCacheDescribe}},
		"describe":         {config: pgfx.Config{ExecMode: pgfx.ExecDescribe}},
		"exec":             {config: pgfx.Config{ExecMode: pgfx.ExecUntyped}},
		"simple protocol":  {config: pgfx.Config{ExecMode: pgfx.ExecSimple}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var seen arguments
			if mode.traced {
				mode.opts = append(mode.opts, pgfx.WithTracer(&seen))
			}
			mode.config.Pool.MaxConns = 1 // so the second write uses the statements that the first has prepared
			m := managerOf(t, fxtest.DB(t, fxtest.Config(mode.config), fxtest.Pool(mode.opts...)), sentDDL...)
			sent := newRepo[Sent, uuid.UUID](t, m, "sent")
			write := func(ctx context.Context) error {
				for i, row := range sentRows() {
					blank := Sent{ID: row.ID, Code: "blank"}
					if i%3 == 0 {
						require.NoError(t, sent.Create(ctx, &blank))
					}
					given := row
					outcome, err := sent.Upsert(ctx, &row)
					require.NoError(t, err)
					require.Equal(t, []repo.UpsertResult{repo.Updated, repo.Inserted, repo.Inserted}[i%3], outcome)
					require.NoError(t, sent.Update(ctx, &row))
					require.True(t, given.At.Equal(row.At))
					row.At, row.Day = given.At, given.Day // the database returns another time zone, and no time of day
					require.Equal(t, given, row)
				}
				return nil
			}
			if mode.inside {
				require.NoError(t, m.Do(t.Context(), write))
			} else {
				require.NoError(t, write(t.Context()))
			}
			assert.Equal(t, want, stored(t, m))
			assert.Equal(t, mode.traced, len(seen.seen) > 0)
		})
	}
}

func TestWrites_FailureAtCommitLeavesTheStruct(t *testing.T) {
	t.Parallel()
	m := newManager(t, "create table plain (id bigint primary key, name text unique deferrable initially deferred)")
	type Plain struct {
		ID     int64 `db:"id,pk"`
		Name   string
		Unsent int `db:"-"`
	}
	type Complete struct {
		ID   int64 `db:"id,pk"`
		Name string
	}
	plain, complete := newRepo[Plain, int64](t, m, "plain"), newRepo[Complete, int64](t, m, "plain")
	ctx := t.Context()
	require.NoError(t, plain.Create(ctx, &Plain{ID: 1, Name: "taken"}))
	_, err := m.Exec(ctx, `create function shout() returns trigger language plpgsql as $$ begin new.name = upper(new.name); return new; end $$;
		create trigger shout before insert or update on plain for each row execute function shout()`)
	require.NoError(t, err)
	require.NoError(t, complete.Create(ctx, &Complete{ID: 2, Name: "other"}))
	for round := range int64(3) {
		row := Complete{ID: 10 + round, Name: "Other"}
		given := row
		require.ErrorIs(t, complete.Create(ctx, &row), repo.ErrConstraint)
		_, err := complete.Upsert(ctx, &row)
		require.ErrorIs(t, err, repo.ErrConstraint)
		row.ID = 1
		given.ID = 1
		require.ErrorIs(t, complete.Update(ctx, &row), repo.ErrConstraint)
		assert.Equal(t, given, row)
		good := Plain{ID: 20 + round, Name: fmt.Sprint("fine ", round), Unsent: 5}
		require.NoError(t, plain.Create(ctx, &good))
		assert.Equal(t, Plain{20 + round, fmt.Sprint("FINE ", round), 5}, good)
	}
}

func TestWrites_AreIndependentWhenConcurrent(t *testing.T) {
	t.Parallel()
	sent := newRepo[Sent, uuid.UUID](t, newManager(t, sentDDL...), "sent")
	const writers, each = 8, 20
	var group sync.WaitGroup
	for writer := range writers {
		group.Go(func() {
			for i := range each {
				note := fmt.Sprint("note ", writer, " ", i)
				row := Sent{ID: uuid.UUID{byte(writer), byte(i)}, Text: note, Code: note, Note: &note, Doc: json.RawMessage(strconv.Itoa(i))}
				if err := sent.Create(t.Context(), &row); err != nil {
					t.Error(err)
					return
				}
				assert.Equal(t, Sent{ID: uuid.UUID{byte(writer), byte(i)}, Text: note, Code: note, Note: &note, Doc: json.RawMessage(strconv.Itoa(i))},
					Sent{ID: row.ID, Text: row.Text, Code: row.Code, Note: row.Note, Doc: row.Doc})
				found, err := sent.Get(t.Context(), row.ID)
				if assert.NoError(t, err) {
					assert.Equal(t, row, *found)
				}
			}
		})
	}
	group.Wait()
}

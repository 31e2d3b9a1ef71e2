package pgfx_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

type address struct {
	Street string
	Color  string
	Key    uuid.UUID
}

// ownSchema creates a schema for the test and returns a Config whose search_path is that schema.
func ownSchema(t *testing.T) (cfg pgfx.Config, run func(sql string)) {
	t.Helper()
	admin, err := pgx.Connect(t.Context(), server.URL())
	require.NoError(t, err)
	schema := fmt.Sprintf("types_%d", time.Now().UnixNano())
	run = func(sql string) {
		_, err := admin.Exec(context.Background(), sql)
		require.NoError(t, err)
	}
	run("create schema " + schema)
	run("set search_path to " + schema)
	t.Cleanup(func() {
		run("drop schema " + schema + " cascade")
		require.NoError(t, admin.Close(context.Background()))
	})
	cfg = serverConfig()
	cfg.SearchPath = schema
	return cfg, run
}

const createTypes = `create type color as enum ('red', 'green'); create domain key as uuid;
	create type address as (street text, color color, key key);
	create type span as range (subtype = timestamptz, multirange_type_name = spans)`

func typeNames() pgfx.Option { return pgfx.WithTypes("color", "key", "address", "span") }

// usesTypes sends and reads values of every kind of type.
func usesTypes(ctx context.Context, t *testing.T, q interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
},
) {
	t.Helper()
	want := []address{{"High Street", "green", uuid.New()}, {"", "red", uuid.New()}}
	var got []address
	require.NoError(t, q.QueryRow(ctx, "select $1::address[]", want).Scan(&got))
	assert.Equal(t, want, got)
	var colors []string
	require.NoError(t, q.QueryRow(ctx, "select $1::color[]", []string{"red", "green"}).Scan(&colors))
	assert.Equal(t, []string{"red", "green"}, colors)
	var keys []uuid.UUID
	require.NoError(t, q.QueryRow(ctx, "select $1::key[]", []uuid.UUID{want[0].Key}).Scan(&keys))
	assert.Equal(t, []uuid.UUID{want[0].Key}, keys)
	at := time.Unix(1700000000, 0)
	span := pgtype.Range[time.Time]{Lower: at, Upper: at.Add(time.Hour), LowerType: pgtype.Inclusive, UpperType: pgtype.Exclusive, Valid: true}
	var spans pgtype.Multirange[pgtype.Range[time.Time]]
	require.NoError(t, q.QueryRow(ctx, "select spans($1::span)", span).Scan(&spans))
	assert.Equal(t, pgtype.Multirange[pgtype.Range[time.Time]]{span}, spans)
}

func TestWithTypes_RegistersOnEveryConnection(t *testing.T) {
	t.Parallel()
	cfg, run := ownSchema(t)
	run(createTypes)
	db := started(t, cfg, typeNames())
	usesTypes(t.Context(), t, db.Pool())
	conn, err := db.Connect(within(t, 10*time.Second), "test")
	require.NoError(t, err)
	usesTypes(t.Context(), t, conn)
	require.NoError(t, conn.Close(t.Context()))
}

func TestWithTypes_ConcurrentUse(t *testing.T) {
	t.Parallel()
	cfg, run := ownSchema(t)
	labels := make([]string, 1000) // pgx's enum codec caches labels: the race detector fails if connections share it
	for i := range labels {
		labels[i] = fmt.Sprintf("'label %d'", i)
	}
	run("create type label as enum (" + strings.Join(labels, ", ") + ")")
	db := started(t, cfg, pgfx.WithTypes("label"))
	var group sync.WaitGroup
	begin := make(chan struct{})
	for range 4 {
		conn, err := db.Pool().Acquire(t.Context())
		require.NoError(t, err)
		group.Go(func() {
			defer conn.Release()
			<-begin
			var got []string
			err := conn.QueryRow(t.Context(), "select enum_range(null::label)").Scan(&got)
			assert.Len(t, got, len(labels))
			assert.NoError(t, err)
		})
	}
	close(begin)
	group.Wait()
}

func TestWithTypes_SetupStepCreatesTypes(t *testing.T) {
	t.Parallel()
	for _, mode := range []pgfx.StartMode{pgfx.StartRequire, pgfx.StartOptional, pgfx.StartLazy} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			cfg, _ := ownSchema(t)
			cfg.Start.Mode, cfg.Pool.MinConns = mode, 3
			db := started(t, cfg, typeNames(), pgfx.WithSetup(
				pgfx.SetupStep{Name: "a create", Run: func(ctx context.Context, db *pgfx.DB) error {
					_, err := db.Pool().Exec(ctx, createTypes)
					return err
				}},
				pgfx.SetupStep{Name: "b use", Run: func(ctx context.Context, db *pgfx.DB) error {
					usesTypes(ctx, t, db.Pool())
					return nil
				}},
			))
			require.NoError(t, db.AwaitReady(within(t, 20*time.Second)))
			var held []interface{ Release() }
			for range 3 { // connections opened before the types existed
				conn, err := db.Pool().Acquire(within(t, 10*time.Second))
				require.NoError(t, err)
				held = append(held, conn)
				usesTypes(t.Context(), t, conn)
			}
			for _, conn := range held {
				conn.Release()
			}
		})
	}
}

func TestWithTypes_NamesMissingTypes(t *testing.T) {
	t.Parallel()
	cfg, run := ownSchema(t)
	run(createTypes)
	db := open(t, cfg, typeNames(), pgfx.WithTypes("colour", "other.color"))
	err := db.Start(within(t, 10*time.Second))
	require.EqualError(t, err, `pgfx: types not found in the database: "colour", "other.color"; `+
		"create them in a migration or a setup step, add their schema to search_path or to the name, or remove them from WithTypes")
}

func TestWithTypes_LazyStartWaitsForTypes(t *testing.T) {
	t.Parallel()
	cfg, run := ownSchema(t)
	cfg.Start.Mode, cfg.Retry.Delay = pgfx.StartLazy, 10*time.Millisecond
	core, logs := observer.New(zap.WarnLevel)
	db := started(t, cfg, typeNames(), pgfx.WithLogger(zap.New(core)))
	failed := func() bool { return logs.FilterMessage("database not ready; retrying").Len() > 0 }
	require.Eventually(t, failed, 10*time.Second, time.Millisecond)
	assert.False(t, db.IsInitialized())
	run(createTypes)
	require.Eventually(t, db.IsInitialized, 10*time.Second, time.Millisecond)
	usesTypes(t.Context(), t, db.Pool())
}

func TestWithTypes_RecreatedTypes(t *testing.T) {
	t.Parallel()
	cfg, run := ownSchema(t)
	run(createTypes)
	db := started(t, cfg, typeNames())
	old, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	usesTypes(t.Context(), t, old)
	run("drop type span; drop type address; drop type color; drop domain key;" + createTypes)
	fresh, err := db.Pool().Acquire(t.Context()) // a new connection loads the new types
	require.NoError(t, err)
	usesTypes(t.Context(), t, fresh)
	fresh.Release()
	old.Release()
	first, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	second, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	usesTypes(t.Context(), t, first) // the connection with the old types has been recycled
	usesTypes(t.Context(), t, second)
	first.Release()
	second.Release()
	assert.EqualValues(t, 3, db.Pool().Stat().NewConnsCount())
}

func TestWithTypes_ChangedComposite(t *testing.T) {
	t.Parallel()
	cfg, run := ownSchema(t)
	run("create type pair as (a int, b int)")
	db := started(t, cfg, pgfx.WithTypes("pair"))
	run("alter type pair add attribute c int")
	db.Pool().Reset() // a new connection loads the types
	var got struct{ A, B, C int }
	require.NoError(t, db.Pool().QueryRow(t.Context(), "select row(1, 2, 3)::pair").Scan(&got))
	assert.Equal(t, struct{ A, B, C int }{1, 2, 3}, got)

	run("alter type pair alter attribute b type text")
	db.Pool().Reset()
	var changed struct {
		A int
		B string
		C int
	}
	require.NoError(t, db.Pool().QueryRow(t.Context(), "select row(1, 'two', 3)::pair").Scan(&changed))
	assert.Equal(t, "two", changed.B)
}

func TestWithTypes_ResetReloadsNestedTypes(t *testing.T) {
	t.Parallel()
	cfg, run := ownSchema(t)
	run("create type pair as (a int, b int); create type couple as (pair pair)")
	db := started(t, cfg, pgfx.WithTypes("couple"))
	run("alter type pair add attribute c int")
	db.Reset()
	var got struct{ Pair struct{ A, B, C int } }
	require.NoError(t, db.Pool().QueryRow(t.Context(), "select row(row(1, 2, 3))::couple").Scan(&got))
	assert.Equal(t, 3, got.Pair.C)
}

func TestWithTypes_DroppedTypeIsLogged(t *testing.T) {
	t.Parallel()
	cfg, run := ownSchema(t)
	run(createTypes)
	core, logs := observer.New(zap.WarnLevel)
	db := started(t, cfg, typeNames(), pgfx.WithLogger(zap.New(core)))
	run("drop type address")
	db.Reset()
	var colors []string
	require.NoError(t, db.Pool().QueryRow(t.Context(), "select array['red']::color[]").Scan(&colors))
	gone := logs.FilterMessage("types of WithTypes do not exist in the database").All()
	require.Len(t, gone, 1)
	assert.Equal(t, []any{"address"}, gone[0].ContextMap()["types"])
	run("create table t (x xid8, p txid_snapshot); create type address as (a t)")
	db.Reset() // pgx has no codec for a txid_snapshot
	require.NoError(t, db.Pool().QueryRow(t.Context(), "select array['red']::color[]").Scan(&colors))
	assert.Equal(t, 1, logs.FilterMessage("cannot load the types of WithTypes").Len())
}

func TestWithTypes_ExtensionTypes(t *testing.T) {
	t.Parallel()
	cfg, run := ownSchema(t)
	run("create extension if not exists hstore; create extension if not exists citext")
	t.Cleanup(func() { run("drop extension if exists hstore; drop extension if exists citext") })
	db := started(t, cfg, pgfx.WithTypes("hstore", "citext", "text", "citext[]"))
	var store pgtype.Hstore
	var text []string
	require.NoError(t, db.Pool().QueryRow(t.Context(), "select 'a=>1'::hstore, $1::citext[]", []string{"A"}).Scan(&store, &text))
	assert.Equal(t, "1", *store["a"])
	assert.Equal(t, []string{"A"}, text)
}

func TestWithTypes_BaseTypeWithoutCodecFails(t *testing.T) {
	t.Parallel()
	db := open(t, serverConfig(), pgfx.WithTypes("txid_snapshot"))
	require.EqualError(t, db.Start(within(t, 10*time.Second)), `pgfx: types: pgx has no codec for base type "txid_snapshot": `+
		"remove it from WithTypes and register a codec with WithAfterConnect")
}

func TestWithTypes_InvalidNameFails(t *testing.T) {
	t.Parallel()
	db := open(t, serverConfig(), pgfx.WithTypes("no name at all"))
	require.ErrorContains(t, db.Start(within(t, 10*time.Second)), "pgfx: ")
}

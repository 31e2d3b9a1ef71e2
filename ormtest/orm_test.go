package ormtest_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"testing"
	"testing/fstest"
	"time"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	gofrs "github.com/gofrs/uuid/v5"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"go.uber.org/fx"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	gormlogger "gorm.io/gorm/logger"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

func TestMain(m *testing.M) { fxtest.Main(m) }

const schema = `create type role as enum ('guest', 'member');
create table people (
	id uuid primary key default gen_random_uuid(), name text not null,
	role public.role not null default 'member',
	settings jsonb not null default '{}', created_at timestamptz not null default now()
)`

// application has a repository and, through its DB, any other library.
type application struct {
	*fxtest.App

	people *repo.Repository[person, uuid.UUID]
}

func start(t *testing.T) application {
	t.Helper()
	var a application
	a.App = fxtest.New(t,
		fxtest.Migrations(fstest.MapFS{"1.sql": {Data: []byte(schema)}}),
		fxtest.Fx(repo.Provide[person, uuid.UUID]("people"), pgfx.ProvideOptions(pgfx.WithTypes("role")),
			txn.ProvideOptions(txn.WithPoolUseInTx(txn.PoolUseInTxError)), fx.Populate(&a.people)))
	return a
}

// requireRow checks that the repository reads a row that another library wrote.
func (a application) requireRow(t *testing.T, id uuid.UUID, name string) {
	t.Helper()
	got, err := a.people.Get(t.Context(), id)
	require.NoError(t, err)
	assert.Equal(t, name, got.Name)
	assert.Equal(t, "guest", got.Role)
	assert.JSONEq(t, `{"theme":"dark"}`, string(got.Settings))
	assert.WithinDuration(t, time.Now(), got.CreatedAt, time.Hour)
}

// createPerson creates a row with the repository.
func (a application) createPerson(t *testing.T) *person {
	t.Helper()
	p := &person{ID: uuid.New(), Name: "Ada", Role: "guest", Settings: []byte(`{"theme":"dark"}`)}
	require.NoError(t, a.people.Create(t.Context(), p))
	return p
}

func TestGORM_BesideRepository(t *testing.T) {
	t.Parallel()
	type settings struct {
		Theme string `json:"theme"`
	}
	type row struct {
		ID        uuid.UUID `gorm:"primaryKey"`
		Name      string
		Role      string
		Settings  settings `gorm:"serializer:json"`
		CreatedAt time.Time
	}
	a := start(t)
	g, err := gorm.Open(postgres.New(postgres.Config{Conn: a.DB.SQL()}), &gorm.Config{Logger: gormlogger.Discard})
	require.NoError(t, err)
	people := func(ctx context.Context) *gorm.DB { return g.WithContext(ctx).Table("people") }
	ada := a.createPerson(t)

	var got row
	require.NoError(t, people(t.Context()).First(&got, "id = ?", ada.ID).Error)
	assert.Equal(t, row{ada.ID, "Ada", "guest", settings{"dark"}, got.CreatedAt}, got)
	assert.True(t, ada.CreatedAt.Equal(got.CreatedAt))

	bob, carl := row{ID: uuid.New(), Name: "Bob", Role: "guest", Settings: settings{"dark"}}, row{ID: uuid.New(), Name: "Carl", Role: "guest"}
	boom := errors.New("boom")
	require.NoError(t, g.WithContext(t.Context()).Transaction(func(tx *gorm.DB) error {
		require.NoError(t, tx.Table("people").Create(&bob).Error)
		require.NoError(t, tx.Table("people").Where("id in ?", []uuid.UUID{bob.ID}).Update("name", "Robert").Error)
		require.ErrorIs(t, tx.Transaction(func(tx *gorm.DB) error { // a savepoint
			require.NoError(t, tx.Table("people").Create(&carl).Error)
			return boom
		}), boom)
		return nil
	}))
	a.requireRow(t, bob.ID, "Robert")
	_, err = a.people.Get(t.Context(), carl.ID)
	require.ErrorIs(t, err, repo.ErrNotFound)

	a.requireRefusedInTx(t, func(ctx context.Context) error { return people(ctx).First(&got, "id = ?", ada.ID).Error })

	joined, err := gorm.Open(postgres.New(postgres.Config{Conn: a.Tx.SQL()}), &gorm.Config{Logger: gormlogger.Discard})
	require.NoError(t, err)
	a.requireJoins(t, joining{
		rename: func(ctx context.Context, id uuid.UUID, name string) error {
			return joined.WithContext(ctx).Table("people").Where("id = ?", id).Update("name", name).Error
		},
		inTx: func(ctx context.Context, fn func(ctx context.Context, rename func(uuid.UUID, string) error) error) error {
			return joined.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
				return fn(ctx, func(id uuid.UUID, name string) error {
					return tx.Table("people").Where("id = ?", id).Update("name", name).Error
				})
			})
		},
		name: func(ctx context.Context, id uuid.UUID) (string, error) {
			var got row
			err := joined.WithContext(ctx).Table("people").First(&got, "id = ?", id).Error
			return got.Name, err
		},
	})
}

func TestBun_BesideRepository(t *testing.T) {
	t.Parallel()
	type row struct {
		bun.BaseModel `bun:"table:people"`

		ID        uuid.UUID `bun:",pk"`
		Name      string
		Role      string
		Settings  map[string]any `bun:"type:jsonb"`
		CreatedAt time.Time      `bun:",nullzero,default:now()"`
	}
	a := start(t)
	b := bun.NewDB(a.DB.SQL(), pgdialect.New())
	ada := a.createPerson(t)

	var got row
	require.NoError(t, b.NewSelect().Model(&got).Where("id = ?", ada.ID).Scan(t.Context()))
	assert.Equal(t, ada.Name, got.Name)
	assert.Equal(t, map[string]any{"theme": "dark"}, got.Settings)

	bob := row{ID: uuid.New(), Name: "Bob", Role: "guest", Settings: map[string]any{"theme": "dark"}}
	require.NoError(t, b.RunInTx(t.Context(), nil, func(ctx context.Context, tx bun.Tx) error {
		if _, err := tx.NewInsert().Model(&bob).Exec(ctx); err != nil {
			return err
		}
		_, err := tx.NewUpdate().Model(&bob).Set("name = ?", "Robert").Where("id in (?)", bun.List([]uuid.UUID{bob.ID})).Exec(ctx)
		return err
	}))
	a.requireRow(t, bob.ID, "Robert")

	boom := errors.New("boom")
	require.ErrorIs(t, b.RunInTx(t.Context(), nil, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewDelete().Model(&bob).WherePK().Exec(ctx)
		require.NoError(t, err)
		return boom
	}), boom)
	a.requireRow(t, bob.ID, "Robert")

	a.requireRefusedInTx(t, func(ctx context.Context) error { return b.NewSelect().Model(&got).Where("id = ?", ada.ID).Scan(ctx) })

	joined := bun.NewDB(a.Tx.SQL(), pgdialect.New())
	rename := func(ctx context.Context, db bun.IDB, id uuid.UUID, name string) error {
		_, err := db.NewUpdate().Model((*row)(nil)).Set("name = ?", name).Where("id = ?", id).Exec(ctx)
		return err
	}
	a.requireJoins(t, joining{
		rename: func(ctx context.Context, id uuid.UUID, name string) error { return rename(ctx, joined, id, name) },
		inTx: func(ctx context.Context, fn func(ctx context.Context, rename func(uuid.UUID, string) error) error) error {
			return joined.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
				return fn(ctx, func(id uuid.UUID, name string) error { return rename(ctx, tx, id, name) })
			})
		},
		name: func(ctx context.Context, id uuid.UUID) (string, error) {
			var got row
			err := joined.NewSelect().Model(&got).Where("id = ?", id).Scan(ctx)
			return got.Name, err
		},
	})
}

func TestSqlx_BesideRepository(t *testing.T) {
	t.Parallel()
	type row struct {
		ID        uuid.UUID       `db:"id"`
		Name      string          `db:"name"`
		Role      string          `db:"role"`
		Settings  json.RawMessage `db:"settings"`
		CreatedAt time.Time       `db:"created_at"`
	}
	a := start(t)
	x := sqlx.NewDb(a.DB.SQL(), "pgx")
	ada := a.createPerson(t)

	var got []row
	require.NoError(t, x.SelectContext(t.Context(), &got, "select * from people where id = any($1)", []uuid.UUID{ada.ID}))
	require.Len(t, got, 1)
	assert.Equal(t, ada.Name, got[0].Name)

	bob := row{ID: uuid.New(), Name: "Robert", Role: "guest", Settings: json.RawMessage(`{"theme":"dark"}`)}
	tx, err := x.BeginTxx(t.Context(), &sql.TxOptions{Isolation: sql.LevelSerializable})
	require.NoError(t, err)
	_, err = tx.NamedExecContext(t.Context(), "insert into people (id, name, role, settings) values (:id, :name, :role, :settings)", bob)
	require.NoError(t, err)
	require.NoError(t, tx.Commit())
	a.requireRow(t, bob.ID, "Robert")

	a.requireRefusedInTx(t, func(ctx context.Context) error {
		return x.GetContext(ctx, &bob, "select * from people where id = $1", ada.ID)
	})

	joined := sqlx.NewDb(a.Tx.SQL(), "pgx")
	rename := func(ctx context.Context, db sqlx.ExecerContext, id uuid.UUID, name string) error {
		_, err := db.ExecContext(ctx, "update people set name = $2 where id = $1", id, name)
		return err
	}
	a.requireJoins(t, joining{
		rename: func(ctx context.Context, id uuid.UUID, name string) error { return rename(ctx, joined, id, name) },
		inTx: func(ctx context.Context, fn func(ctx context.Context, rename func(uuid.UUID, string) error) error) error {
			tx, err := joined.BeginTxx(ctx, nil)
			if err != nil {
				return err
			}
			if err := fn(ctx, func(id uuid.UUID, name string) error { return rename(ctx, tx, id, name) }); err != nil {
				return errors.Join(err, tx.Rollback())
			}
			return tx.Commit()
		},
		name: func(ctx context.Context, id uuid.UUID) (string, error) {
			var got row
			err := joined.GetContext(ctx, &got, "select * from people where id = $1", id)
			return got.Name, err
		},
	})
}

func TestEnt_JoinsTransactionOfContext(t *testing.T) {
	t.Parallel()
	a := start(t)
	driver := entsql.OpenDB(dialect.Postgres, a.Tx.SQL()) // for ent.NewClient(ent.Driver(driver))
	rename := func(ctx context.Context, db dialect.ExecQuerier, id uuid.UUID, name string) error {
		query, args := entsql.Dialect(dialect.Postgres).Update("people").Set("name", name).Where(entsql.EQ("id", id)).Query()
		return db.Exec(ctx, query, args, nil)
	}
	a.requireJoins(t, joining{
		rename: func(ctx context.Context, id uuid.UUID, name string) error { return rename(ctx, driver, id, name) },
		inTx: func(ctx context.Context, fn func(ctx context.Context, rename func(uuid.UUID, string) error) error) error {
			tx, err := driver.Tx(ctx)
			if err != nil {
				return err
			}
			if err := fn(ctx, func(id uuid.UUID, name string) error { return rename(ctx, tx, id, name) }); err != nil {
				return errors.Join(err, tx.Rollback())
			}
			return tx.Commit()
		},
		name: func(ctx context.Context, id uuid.UUID) (name string, err error) {
			query, args := entsql.Dialect(dialect.Postgres).Select("name").From(entsql.Table("people")).Where(entsql.EQ("id", id)).Query()
			var rows entsql.Rows
			if err := driver.Query(ctx, query, args, &rows); err != nil {
				return "", err
			}
			defer func() { _ = rows.Close() }()
			return entsql.ScanString(rows)
		},
	})
}

// joining is a library that uses Manager.SQL.
type joining struct {
	rename func(ctx context.Context, id uuid.UUID, name string) error
	inTx   func(ctx context.Context, fn func(ctx context.Context, rename func(uuid.UUID, string) error) error) error
	name   func(ctx context.Context, id uuid.UUID) (string, error)
}

// requireJoins checks that a library on Manager.SQL joins the transaction in ctx, and that its own transaction is a savepoint there.
func (a application) requireJoins(t *testing.T, library joining) {
	t.Helper()
	p := a.createPerson(t)
	boom := errors.New("boom")
	requireName := func(ctx context.Context, want string) {
		t.Helper()
		got, err := library.name(ctx, p.ID)
		require.NoError(t, err)
		assert.Equal(t, want, got)
		row, err := a.people.Get(ctx, p.ID)
		require.NoError(t, err)
		assert.Equal(t, want, row.Name)
	}
	require.ErrorIs(t, a.Tx.Do(t.Context(), func(ctx context.Context) error {
		require.NoError(t, library.rename(ctx, p.ID, "Gone"))
		requireName(ctx, "Gone")
		requireName(txn.Detach(ctx), "Ada")
		return boom
	}), boom)
	requireName(t.Context(), "Ada")

	require.NoError(t, a.Tx.Do(t.Context(), func(ctx context.Context) error {
		require.NoError(t, library.inTx(ctx, func(_ context.Context, rename func(uuid.UUID, string) error) error {
			return rename(p.ID, "Grace")
		}))
		require.ErrorIs(t, library.inTx(ctx, func(ctx context.Context, rename func(uuid.UUID, string) error) error {
			require.NoError(t, rename(p.ID, "Gone"))
			requireName(ctx, "Gone")
			return boom
		}), boom)
		requireName(ctx, "Grace")
		return nil
	}))
	requireName(t.Context(), "Grace")

	require.ErrorIs(t, library.inTx(t.Context(), func(_ context.Context, rename func(uuid.UUID, string) error) error {
		require.NoError(t, rename(p.ID, "Gone"))
		return boom
	}), boom)
	requireName(t.Context(), "Grace")
	assert.Empty(t, a.DB.Leases(), "all connections were released")
}

// requireRefusedInTx checks that a library on DB.SQL, which cannot join the transaction in ctx, gets an error.
func (a application) requireRefusedInTx(t *testing.T, use func(ctx context.Context) error) {
	t.Helper()
	require.NoError(t, use(t.Context()))
	require.NoError(t, a.Tx.Do(t.Context(), func(ctx context.Context) error {
		require.ErrorIs(t, use(ctx), txn.ErrPoolInTransaction)
		return use(txn.Detach(ctx))
	}))
	assert.Empty(t, a.DB.Leases(), "all connections were released")
}

func TestSqlc_JoinsTransactionOfContext(t *testing.T) {
	t.Parallel()
	a := start(t)
	q := newQueries(a.Tx)
	boom := errors.New("boom")
	ada := createPersonParams{ID: uuid.New(), Name: "Ada", Role: "guest", Settings: []byte(`{"theme":"dark"}`)}
	bob := &person{ID: uuid.New(), Name: "Bob", Role: "guest", Settings: []byte(`{"theme":"dark"}`)}
	both := func(ctx context.Context) error {
		if _, err := q.CreatePerson(ctx, ada); err != nil {
			return err
		}
		if err := a.people.Create(ctx, bob); err != nil { // the repository and sqlc's code, in one transaction
			return err
		}
		found, err := q.ListPeople(ctx, []uuid.UUID{ada.ID, bob.ID})
		assert.Len(t, found, 2)
		return err
	}
	require.ErrorIs(t, a.Tx.Do(t.Context(), func(ctx context.Context) error {
		require.NoError(t, both(ctx))
		return boom
	}), boom)
	found, err := q.ListPeople(t.Context(), []uuid.UUID{ada.ID, bob.ID})
	require.NoError(t, err)
	require.Empty(t, found, "both were rolled back")

	require.NoError(t, a.Tx.Do(t.Context(), both))
	n, err := q.RenamePerson(t.Context(), ada.ID, "Ada L")
	require.NoError(t, err)
	assert.EqualValues(t, 1, n)
	a.requireRow(t, ada.ID, "Ada L")
	a.requireRow(t, bob.ID, "Bob")

	require.NoError(t, a.Tx.Do(t.Context(), func(ctx context.Context) error {
		tx, ok := a.Tx.Tx(ctx)
		require.True(t, ok)
		_, err := q.WithTx(tx).RenamePerson(ctx, bob.ID, "Robert")
		return err
	}))
	a.requireRow(t, bob.ID, "Robert")
}

func TestAllLibraries_ShareOneConnection(t *testing.T) {
	t.Parallel()
	var people *repo.Repository[person, uuid.UUID]
	a := fxtest.New(t, fxtest.Config(pgfx.Config{Pool: pgfx.PoolConfig{MaxConns: 1, AcquireTimeout: 10 * time.Second}}),
		fxtest.Migrations(fstest.MapFS{"1.sql": {Data: []byte(schema)}}),
		fxtest.Fx(repo.Provide[person, uuid.UUID]("people"), fx.Populate(&people)))
	g, err := gorm.Open(postgres.New(postgres.Config{Conn: a.DB.SQL()}), &gorm.Config{Logger: gormlogger.Discard})
	require.NoError(t, err)
	x, b := sqlx.NewDb(a.DB.SQL(), "pgx"), bun.NewDB(a.DB.SQL(), pgdialect.New())
	pids := make([]int, 4)
	require.NoError(t, g.WithContext(t.Context()).Raw("select pg_backend_pid()").Scan(&pids[0]).Error)
	require.NoError(t, x.GetContext(t.Context(), &pids[1], "select pg_backend_pid()"))
	require.NoError(t, b.NewRaw("select pg_backend_pid()").Scan(t.Context(), &pids[2]))
	require.NoError(t, a.Pool.QueryRow(t.Context(), "select pg_backend_pid()").Scan(&pids[3]))
	_, err = people.Count(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []int{pids[0], pids[0], pids[0], pids[0]}, pids)
}

func TestGofrsUUID_ConvertsAsWithPgxAlone(t *testing.T) {
	t.Parallel()
	a := start(t)
	id := gofrs.Must(gofrs.NewV4())
	var got gofrs.UUID
	var list []gofrs.UUID
	var none gofrs.NullUUID
	row := a.Pool.QueryRow(t.Context(), "select $1::uuid, $2::uuid[], $3::uuid", id, []gofrs.UUID{id}, none)
	require.NoError(t, row.Scan(&got, &list, &none))
	assert.Equal(t, id, got)
	assert.Equal(t, []gofrs.UUID{id}, list)
	assert.False(t, none.Valid)
	require.ErrorContains(t, a.Pool.QueryRow(t.Context(), "select null::uuid").Scan(&got), "cannot convert <nil> to UUID")

	conn, err := a.Pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	m, stock := conn.Conn().TypeMap(), pgtype.NewMap()
	for _, format := range []int16{pgtype.TextFormatCode, pgtype.BinaryFormatCode} {
		for _, value := range []any{id, &id, gofrs.Nil, gofrs.NullUUID{}, gofrs.NullUUID{UUID: id, Valid: true}} {
			want, err := stock.Encode(pgtype.UUIDOID, format, value, nil)
			require.NoError(t, err)
			got, err := m.Encode(pgtype.UUIDOID, format, value, nil)
			require.NoError(t, err)
			assert.Equal(t, want, got)
		}
	}
	for name, src := range map[string][]byte{"bytes": id[:], "null": nil, "short": id[:5]} {
		want, got := gofrs.UUID{1}, gofrs.UUID{1}
		wantErr := stock.Scan(pgtype.UUIDOID, pgtype.BinaryFormatCode, src, &want)
		gotErr := m.Scan(pgtype.UUIDOID, pgtype.BinaryFormatCode, src, &got)
		assert.Equal(t, want, got, name)
		assert.Equal(t, wantErr, gotErr, name)
	}
}

package repo_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// waitTimeout limits waits for events that normally happen immediately.
const waitTimeout = 20 * time.Second

func TestMain(m *testing.M) { fxtest.Main(m) }

// newDB returns a started pool on a separate database for the test.
func newDB(tb testing.TB, opts ...pgfx.Option) *pgfx.DB {
	tb.Helper()
	return fxtest.DB(tb, fxtest.Config(pgfx.Config{Pool: pgfx.PoolConfig{MaxConns: 4}}), fxtest.Pool(opts...))
}

// newManager returns a manager on a separate database after executing ddl in it.
func newManager(tb testing.TB, ddl ...string) *txn.Manager {
	tb.Helper()
	return managerOf(tb, newDB(tb), ddl...)
}

func managerOf(tb testing.TB, db *pgfx.DB, ddl ...string) *txn.Manager {
	tb.Helper()
	m, err := txn.NewManager(db)
	require.NoError(tb, err)
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
		defer cancel()
		require.NoError(tb, m.Close(ctx))
	})
	for _, statement := range ddl {
		_, err := m.Exec(tb.Context(), statement)
		require.NoError(tb, err)
	}
	return m
}

// newRepo returns a repository and fails the test if there is an error.
func newRepo[T, K any](tb testing.TB, m *txn.Manager, table string, opts ...repo.Option) *repo.Repository[T, K] {
	tb.Helper()
	r, err := repo.New[T, K](m, table, opts...)
	require.NoError(tb, err)
	return r
}

// counter is a tracer that records round trips.
type counter struct {
	mu         sync.Mutex
	statements []string
}

func (c *counter) record(statement string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.statements = append(c.statements, statement)
}

// drain returns the round trips since the last call.
func (c *counter) drain() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	statements := c.statements
	c.statements = nil
	return statements
}

func (c *counter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	c.record(data.SQL)
	return ctx
}
func (c *counter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (c *counter) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	c.record("batch")
	return ctx
}
func (c *counter) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (c *counter) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

func (c *counter) TraceCopyFromStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceCopyFromStartData) context.Context {
	c.record("copy " + data.TableName.Sanitize())
	return ctx
}
func (c *counter) TraceCopyFromEnd(context.Context, *pgx.Conn, pgx.TraceCopyFromEndData) {}

// User is the model of most tests. It has every column option and the common column types.

type Address struct {
	Street string
	City   *string
}

type Settings struct {
	Theme string            `json:"theme"`
	Flags map[string]bool   `json:"flags,omitempty"`
	More  map[string]string `json:"more,omitempty"`
}

type Stamps struct {
	CreatedAt time.Time  `db:"created_at,created"`
	UpdatedAt time.Time  `db:"updated_at,updated"`
	DeletedAt *time.Time `db:"deleted_at,softdelete"`
}

type User struct {
	Stamps

	ID       uuid.UUID `db:"id,pk,default"`
	Email    string
	Name     *string
	Age      int
	Status   string   `db:"status,default"`
	Settings Settings `db:"settings,json"`
	Tags     []string
	Address  Address
	Shout    string `db:"shout,generated"`
	Version  int64  `db:"version,version"`
	Cached   string `db:"-"`
}

const usersDDL = `create table users (
	id uuid primary key default gen_random_uuid(), email text not null constraint users_email_key unique, name text,
	age integer not null constraint users_age_check check (age >= 0), status text not null default 'new',
	settings jsonb not null, tags text[], "address.street" text not null, "address.city" text,
	shout text not null generated always as (upper(email)) stored, version bigint not null,
	created_at timestamptz not null, updated_at timestamptz not null, deleted_at timestamptz)`

func newUsers(tb testing.TB, opts ...repo.Option) (*txn.Manager, *repo.Repository[User, uuid.UUID]) {
	tb.Helper()
	m := newManager(tb, usersDDL)
	return m, newRepo[User, uuid.UUID](tb, m, "users", opts...)
}

// create creates one user per email address.
func create(tb testing.TB, users *repo.Repository[User, uuid.UUID], emails ...string) []User {
	tb.Helper()
	rows := make([]User, len(emails))
	for i, email := range emails {
		rows[i] = User{Email: email, Age: i}
	}
	require.NoError(tb, users.CreateMany(tb.Context(), rows))
	return rows
}

func emails(users []User) []string {
	list := make([]string, len(users))
	for i := range users {
		list[i] = users[i].Email
	}
	return list
}

func tracer(c *counter) pgfx.Option { return pgfx.WithTracer(c) }

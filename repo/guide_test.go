package repo_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// This file contains the code of docs/repository.md.

// docs: model
type Order struct {
	ID        uuid.UUID      `db:"id,pk,default"`
	Customer  uuid.UUID      `db:"customer_id"`
	Status    string         `db:"status,default"`
	Lines     []Line         `db:"lines,json"`
	Total     int64          `db:"total,generated"`
	Note      *string        `db:"note"`
	Version   int            `db:"version,version"`
	CreatedAt time.Time      `db:"created_at,created"`
	UpdatedAt time.Time      `db:"updated_at,updated"`
	DeletedAt *time.Time     `db:"deleted_at,softdelete"`
	Cached    map[string]any `db:"-"`
}

type Line struct {
	SKU   string `json:"sku"`
	Cents int64  `json:"cents"`
}

// docs: end

const typesDDL = "create extension hstore; create schema billing; create type billing.address as (street text, city text)"

const ordersTable = `
create table customers (id uuid primary key default gen_random_uuid(), name text not null);
create function cents(lines jsonb) returns bigint language sql immutable as
	$$ select coalesce(sum((line ->> 'cents')::bigint), 0) from jsonb_array_elements(lines) line $$;
create table orders (
	id uuid primary key default gen_random_uuid(), customer_id uuid not null constraint orders_customer references customers,
	status text not null default 'new', lines jsonb not null, total bigint not null generated always as (cents(lines)) stored, note text,
	version int not null, created_at timestamptz not null, updated_at timestamptz not null, deleted_at timestamptz
);
create unique index orders_one_draft on orders (customer_id) where status = 'draft' and deleted_at is null;`

var ErrNoSuchCustomer = errors.New("there is no such customer")

// docs: types
var typesModule = pgfx.ProvideOptions(pgfx.WithTypes("hstore", "billing.address")) // without Fx: an option of pgfx.Open

// docs: end

// docs: provide
var orderModule = fx.Module("orders",
	repo.Provide[Order, uuid.UUID]("orders",
		repo.MapConstraint("orders_customer", ErrNoSuchCustomer),
	),
	fx.Provide(NewOrders),
)

type Orders struct {
	orders *repo.Repository[Order, uuid.UUID]
	tx     *txn.Manager
}

func NewOrders(orders *repo.Repository[Order, uuid.UUID], tx *txn.Manager) *Orders {
	return &Orders{orders: orders, tx: tx}
}

// docs: end

// docs: read
func (o *Orders) Open(ctx context.Context, customer uuid.UUID, cursor string) (*repo.Page[Order], error) {
	return o.orders.Page(ctx, cursor, 50,
		repo.Eq("customer_id", customer),
		repo.Or(repo.In("status", "new", "draft"), repo.Where("total > @least", pgx.NamedArgs{"least": 10_000})),
		repo.Desc("created_at"),
	)
}

// docs: end

// docs: write
func (o *Orders) Place(ctx context.Context, id uuid.UUID) error {
	return o.tx.Do(ctx, func(ctx context.Context) error {
		order, err := o.orders.Lock(ctx, id)
		if err != nil {
			return err // repo.ErrNotFound
		}
		order.Status = "placed"
		return o.orders.Update(ctx, order) // a *repo.StaleError if another session has updated the row
	})
}

// docs: end

// docs: upsert
func (o *Orders) SaveDraft(ctx context.Context, draft *Order) (created bool, err error) {
	draft.Status = "draft"
	outcome, err := o.orders.Upsert(ctx, draft,
		repo.OnConflict("customer_id").Where("status = 'draft' and deleted_at is null"))
	return outcome == repo.Inserted, err
}

// docs: end

// docs: batch
func (o *Orders) Overview(ctx context.Context, customer uuid.UUID) (latest *Order, count int64, err error) {
	var batch repo.Batch
	orders := o.orders.In(&batch)
	first := orders.First(repo.Eq("customer_id", customer), repo.Desc("created_at"))
	all := orders.Count(repo.Eq("customer_id", customer))
	if err := batch.Send(ctx); err != nil { // both in one round trip
		return nil, 0, err
	}
	if latest, err = first.Value(); err != nil {
		return nil, 0, err // repo.ErrNotFound
	}
	count, err = all.Value()
	return latest, count, err
}

// docs: end

// docs: own sql
type Revenue struct {
	Customer string
	Month    time.Time
	Cents    int64
}

func (o *Orders) Revenue(ctx context.Context, since time.Time) ([]Revenue, error) {
	return repo.Query[Revenue](ctx, o.tx, `
		select c.name as customer, date_trunc('month', o.created_at) as month, sum(o.total)::bigint as cents
		from orders o join customers c on c.id = o.customer_id
		where o.created_at >= $1 group by 1, 2 order by 2, 1`, since)
}

// docs: end

// docs: left join
type WithLastOrder struct {
	Name  string
	Order *struct { // nil without an order
		ID    uuid.UUID `json:"id"`
		Total int64     `json:"total"`
	}
}

func (o *Orders) Customers(ctx context.Context) ([]WithLastOrder, error) {
	return repo.Query[WithLastOrder](ctx, o.tx, `
		select c.name, case when o.id is not null then to_jsonb(o) end as "order"
		from customers c left join lateral (
			select id, total from orders where customer_id = c.id order by created_at desc limit 1
		) o on true order by c.name`)
}

// docs: end

// docs: import
func (o *Orders) Load(ctx context.Context, feed func(yield func(Order, error) bool)) (bad []error, err error) {
	_, err = o.orders.Import(ctx, feed,
		repo.OnRowError(func(err error) error {
			if bad = append(bad, err); len(bad) > 100 {
				return errors.New("more than 100 bad rows: is this the right file?")
			}
			return nil
		}))
	return bad, err
}

// docs: end

func TestGuide_CodeOfTheRepositoryPage(t *testing.T) {
	t.Parallel()
	var (
		orders *Orders
		tx     *txn.Manager
	)
	fxtest.New(t, fxtest.SQL(ordersTable), fxtest.SQL(typesDDL), fxtest.Fx(orderModule, typesModule, fx.Populate(&orders, &tx)))
	ctx := t.Context()
	ids, err := repo.Pluck[uuid.UUID](ctx, tx, "insert into customers (name) values ('Ada'), ('Bob') returning id")
	require.NoError(t, err)
	ada := ids[0]

	lines := []Line{{"a", 300}, {"b", 450}}
	created, err := orders.SaveDraft(ctx, &Order{Customer: ada, Lines: lines[:1]})
	require.NoError(t, err)
	assert.True(t, created)
	draft := &Order{Customer: ada, Lines: lines}
	created, err = orders.SaveDraft(ctx, draft)
	require.NoError(t, err)
	assert.False(t, created)
	assert.EqualValues(t, 750, draft.Total)
	_, err = orders.SaveDraft(ctx, &Order{Customer: uuid.New(), Lines: lines})
	require.ErrorIs(t, err, ErrNoSuchCustomer)

	page, err := orders.Open(ctx, ada, "")
	require.NoError(t, err)
	require.Len(t, page.Rows, 1)
	require.NoError(t, orders.Place(ctx, draft.ID))
	require.ErrorIs(t, orders.Place(ctx, uuid.New()), repo.ErrNotFound)
	require.ErrorIs(t, orders.orders.Update(ctx, draft), repo.ErrStale)

	latest, count, err := orders.Overview(ctx, ada)
	require.NoError(t, err)
	assert.Equal(t, "placed", latest.Status)
	assert.EqualValues(t, 1, count)
	revenue, err := orders.Revenue(ctx, time.Unix(0, 0))
	require.NoError(t, err)
	require.Len(t, revenue, 1)
	assert.EqualValues(t, 750, revenue[0].Cents)
	customers, err := orders.Customers(ctx)
	require.NoError(t, err)
	require.Len(t, customers, 2)
	assert.EqualValues(t, 750, customers[0].Order.Total)
	assert.Nil(t, customers[1].Order)

	bad, err := orders.Load(ctx, sequence(10, func(i int) (Order, error) {
		if i == 3 {
			return Order{Customer: uuid.New(), Lines: lines}, nil
		}
		return Order{Customer: ada, Lines: lines}, nil
	}))
	require.NoError(t, err)
	require.Len(t, bad, 1)
	require.ErrorIs(t, bad[0], ErrNoSuchCustomer)
}

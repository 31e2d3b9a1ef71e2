package contest

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/txn"
)

// Operation is an operation that several contenders support.
type Operation struct {
	// Name is the title in tables.
	Name string
	// Slug is the name in benchmarks.
	Slug string
	// Contenders are the contenders; all are compared with the first.
	Contenders []Contender
	// Rows is the number of rows per call.
	Rows int
	// Setup restores the table before a block of calls, or before each call if Single is set. It may be nil.
	Setup func(ctx context.Context, conn *pgx.Conn) error
	// Single makes every call start with Setup.
	Single bool
	// GeneratesKeys reports that the database generates keys, which differ between calls.
	GeneratesKeys bool
	// Limits are compared with the results by the command table.
	Limits []Limit

	session func(client *Client) *Session
}

// Limit holds the limits of one contender.
type Limit struct {
	Contender string
	// Live and Replay are ratios of the time to that of the first contender. Zero means no limit.
	Live, Replay float64
	// Allocs is the number of allocations per row. Zero means no limit.
	Allocs float64
	// ExtraAllocs is one more than the number of allocations per call beyond the first contender's. Zero means no limit.
	ExtraAllocs float64
}

// Session runs one operation with one contender.
type Session struct {
	// Prepare is called after each setup of the table. It is not measured.
	Prepare func()
	// Call is the i-th call. In a replay i is always 0.
	Call func(ctx context.Context, i int) error
	// Result returns the values that the last call read or wrote: []Item, int64, bool or nil.
	Result func() any
}

// Session returns the session of a client, or nil if it does not support the operation.
func (o *Operation) Session(client *Client) *Session {
	s := o.session(client)
	if s == nil {
		return nil
	}
	if s.Prepare == nil {
		s.Prepare = func() {}
	}
	if s.Result == nil {
		s.Result = client.Result
	}
	return s
}

// library is the name of the contender for which goals are set.
const library = "rdsfx"

// Numbers of rows.
const (
	bulk    = 10_000
	updated = 1_000
	seeded  = 1_000
)

// Operations returns all operations.
func Operations() []Operation {
	all := func() []Contender {
		return []Contender{Raw(), RDSFX(), RawCodecs(), ByName(), Scany(), SQLX(), Bun(), GORM(), SQLC()}
	}
	some := func() []Contender { return []Contender{Raw(), RDSFX(), RawCodecs(), SQLX(), Bun(), GORM()} }
	return []Operation{
		{
			Name: "Get by key", Slug: "get", Contenders: all(), Rows: 1, Setup: seed(seeded), session: getSession,
			Limits: []Limit{{Contender: library, Replay: 0.50, Allocs: 22}},
		},
		{
			Name: "List 1,000 rows", Slug: "list", Contenders: all(), Rows: Listed, Setup: seed(Listed),
			session: callSession(func(c *Client) func(context.Context) error { return c.List }),
			Limits:  []Limit{{Contender: library, Replay: 0.15, Live: 0.75}},
		},
		{
			Name: "Insert returning", Slug: "insert", Contenders: all(), Rows: 1, Setup: seed(0),
			session: writeSession(func(c *Client) writeFunc { return c.Insert }, false),
			Limits:  []Limit{{Contender: library, Replay: 0.65}},
		},
		{
			Name: "Upsert returning", Slug: "upsert", Contenders: all(), Rows: 1, Setup: seed(seeded),
			session: writeSession(func(c *Client) writeFunc { return c.Upsert }, true),
			Limits:  []Limit{{Contender: library, Replay: 0.65}},
		},
		{
			Name: "Count", Slug: "count", Contenders: some(), Rows: 1, Setup: seed(seeded),
			session: callSession(func(c *Client) func(context.Context) error { return c.Count }),
			Limits:  []Limit{{Contender: library, Replay: 1.25}},
		},
		{
			Name: "Exists", Slug: "exists", Contenders: some(), Rows: 1, Setup: seed(seeded), session: existsSession,
			Limits: []Limit{{Contender: library, ExtraAllocs: 1}},
		},
		{
			Name: "Bulk insert of 10,000, no keys needed", Slug: "insert-10000", Rows: bulk, Setup: seed(0), Single: true, GeneratesKeys: true,
			Contenders: []Contender{CopyFrom(), RDSFX(), Unnest(), MultiValues(), Batch(), Bun(), GORM()},
			session:    bulkSession(func(c *Client) bulkFunc { return c.InsertMany }, bulk, withoutKeys),
			Limits:     []Limit{{Contender: library, Live: 1.00, Allocs: 4}},
		},
		{
			Name: "Bulk insert of 10,000, keys returned", Slug: "insert-10000-keys", Rows: bulk, Setup: seed(0), Single: true, GeneratesKeys: true,
			Contenders: []Contender{CopyFrom(), RDSFX(), RDSFXKeys(), Unnest(), Bun(), GORM()},
			session:    bulkSession(func(c *Client) bulkFunc { return c.InsertReturning }, bulk, withoutKeys),
			Limits: []Limit{
				{Contender: library, Live: 1.75},
				{Contender: "rdsfx+keys", Live: 1.75},
			},
		},
		{
			Name: "Bulk update of 1,000", Slug: "update-1000", Rows: updated, Setup: seed(updated), Single: true,
			Contenders: []Contender{Raw(), RDSFX(), Unnest(), Batch(), Bun(), GORM()},
			session:    bulkSession(func(c *Client) bulkFunc { return c.UpdateMany }, updated, changed),
			Limits:     []Limit{{Contender: library, Live: 0.25, Allocs: 5}},
		},
		{
			Name: "Bulk upsert of 10,000", Slug: "upsert-10000", Rows: bulk, Setup: seed(bulk / 2), Single: true,
			Contenders: []Contender{Unnest(), RDSFX(), MultiValues(), Bun(), GORM()},
			session:    bulkSession(func(c *Client) bulkFunc { return c.UpsertMany }, bulk, changed),
			Limits:     []Limit{{Contender: library, Live: 0.85}},
		},
		{
			Name: "Transaction around 3 statements", Slug: "transaction", Rows: 1,
			Contenders: []Contender{
				BeginFunc(), Do("Do-unresolved", txn.ResolveCommit(txn.Unresolved)), Do("Do-witness"), BeginFuncPlain(), Bun(), GORM(),
			},
			session: callSession(func(c *Client) func(context.Context) error { return c.Transaction }),
			Limits: []Limit{
				{Contender: "Do-unresolved", Replay: 1.10},
				{Contender: "Do-witness", Replay: 1.60},
			},
		},
		{
			Name: "Statistics for a statement", Slug: "statement", Rows: 1, Contenders: pools(),
			session: callSession(func(c *Client) func(context.Context) error { return c.Statement }),
			Limits: []Limit{
				{Contender: library, Replay: 1.50, ExtraAllocs: 1},
				{Contender: "no-statistics", ExtraAllocs: 1},
			},
		},
		{
			Name: "Acquire and release", Slug: "acquire", Rows: 1, Contenders: pools(),
			session: callSession(func(c *Client) func(context.Context) error { return c.Acquire }),
			Limits:  []Limit{{Contender: library, Replay: 1.70, ExtraAllocs: 1}},
		},
	}
}

type (
	writeFunc = func(ctx context.Context, row *Item) error
	bulkFunc  = func(ctx context.Context, rows []Item) error
)

func callSession(pick func(*Client) func(context.Context) error) func(*Client) *Session {
	return func(client *Client) *Session {
		call := pick(client)
		if call == nil {
			return nil
		}
		return &Session{Call: func(ctx context.Context, _ int) error { return call(ctx) }}
	}
}

func getSession(client *Client) *Session {
	if client.Get == nil {
		return nil
	}
	return &Session{Call: func(ctx context.Context, i int) error { return client.Get(ctx, Key((1+i)%seeded)) }}
}

func existsSession(client *Client) *Session {
	if client.Exists == nil {
		return nil
	}
	return &Session{Call: func(ctx context.Context, i int) error { return client.Exists(ctx, Key((1+i)%seeded)) }}
}

// writeSession writes a different row in each call. Existing rows are reused in turn.
func writeSession(pick func(*Client) writeFunc, existing bool) func(*Client) *Session {
	return func(client *Client) *Session {
		write := pick(client)
		if write == nil {
			return nil
		}
		template, row := Row(1), new(Item)
		return &Session{
			Call: func(ctx context.Context, i int) error {
				*row = template
				row.ID = Key(1 + i)
				if existing {
					row.ID = Key((1 + i) % seeded)
				}
				return write(ctx, row)
			},
			Result: func() any {
				if read := client.Result(); read != nil {
					return read
				}
				return []Item{*row}
			},
		}
	}
}

// bulkSession writes n rows.
func bulkSession(pick func(*Client) bulkFunc, n int, shape func(*Item)) func(*Client) *Session {
	return func(client *Client) *Session {
		write := pick(client)
		if write == nil {
			return nil
		}
		templates, rows := Rows(0, n), make([]Item, n)
		for i := range templates {
			shape(&templates[i])
		}
		return &Session{
			Prepare: func() {
				copy(rows, templates)
				if client.Reset != nil {
					client.Reset()
				}
			},
			Call:   func(ctx context.Context, _ int) error { return write(ctx, rows) },
			Result: func() any { return rows },
		}
	}
}

func withoutKeys(row *Item) { row.ID = Item{}.ID }

func changed(row *Item) {
	row.Quantity++
	row.Name += " changed"
	row.Active = !row.Active
}

// seed returns a setup that fills the table with the first n rows.
func seed(n int) func(ctx context.Context, conn *pgx.Conn) error {
	rows := Rows(0, n)
	return func(ctx context.Context, conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, "truncate items"); err != nil || n == 0 {
			return err
		}
		_, err := conn.CopyFrom(ctx, pgx.Identifier{"items"}, names(columns), pgx.CopyFromSlice(n, func(i int) ([]any, error) {
			row := &rows[i]
			return []any{
				row.ID, row.Name, row.Note, row.Quantity, row.Active, row.Attributes, row.Price, row.CreatedAt, row.UpdatedAt,
			}, nil
		}))
		if err == nil {
			_, err = conn.Exec(ctx, "analyze items")
		}
		return err
	}
}

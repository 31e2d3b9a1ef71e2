package contest

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/txn"
)

// Operation is something that several contenders can do.
type Operation struct {
	// Name is for people, Slug for benchmarks' names.
	Name, Slug string
	// Contenders take part; the others are compared with the first.
	Contenders []Contender
	// Rows is how many rows one call is about.
	Rows int
	// Setup brings the table into the state that a call expects, before each call when it is Single, else before a block of
	// them. nil: nothing to do.
	Setup  func(ctx context.Context, conn *pgx.Conn) error
	Single bool
	// MakesKeys tells that the database makes keys, so that they differ from call to call.
	MakesKeys bool
	// Goals are what the library is to reach.
	Goals []Goal

	session func(client *Client) *Session
}

// Goal is a limit for one contender.
type Goal struct {
	Contender string
	// Live and Replay are ratios to the first contender, zero without one.
	Live, Replay float64
	// Allocs is the number of allocations for each row, MoreAllocs, which begins to count at one, how many more than the first
	// contender's there may be for each call; and MoreTime the nanoseconds that a call may take longer. Zero: none is set.
	Allocs, MoreAllocs, MoreTime float64
	// Text says the same to people.
	Text string
}

// Session is one contender at one operation.
type Session struct {
	// Prepare is called before each call when the operation is Single, and isn't measured.
	Prepare func()
	// Call does it for the i-th time. Replayed calls are all the first.
	Call func(ctx context.Context, i int) error
	// Result returns what the last call has read or written: []Item, int64, bool, or nil.
	Result func() any
}

// Session returns a client's way to do the operation, nil when it has none.
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

// ours is the contender that goals are set for.
const ours = "rdsfx"

// Numbers of rows.
const (
	bulk    = 10_000
	updated = 1_000
	seeded  = 1_000
)

// Operations returns all of them.
func Operations() []Operation {
	everybody := func() []Contender {
		return []Contender{Raw(), RDSFX(), RawCodecs(), ByName(), Scany(), SQLX(), Bun(), GORM(), SQLC()}
	}
	some := func() []Contender { return []Contender{Raw(), RDSFX(), RawCodecs(), SQLX(), Bun(), GORM()} }
	return []Operation{
		{
			Name: "Get by key", Slug: "get", Contenders: everybody(), Rows: 1, Setup: seed(seeded), session: getSession,
			Goals: []Goal{{Contender: ours, Replay: 0.50, Allocs: 22, Text: "replay ≤ 0.50, ≤ 22 allocations"}},
		},
		{
			Name: "List 1,000 rows", Slug: "list", Contenders: everybody(), Rows: Listed, Setup: seed(Listed),
			session: callSession(func(c *Client) func(context.Context) error { return c.List }),
			Goals:   []Goal{{Contender: ours, Replay: 0.40, Live: 0.65, Text: "replay ≤ 0.40, live ≤ 0.65"}},
		},
		{
			Name: "Insert returning", Slug: "insert", Contenders: everybody(), Rows: 1, Setup: seed(0),
			session: writeSession(func(c *Client) writeFunc { return c.Insert }, false),
			Goals:   []Goal{{Contender: ours, Replay: 0.60, Text: "replay ≤ 0.60"}},
		},
		{
			Name: "Upsert returning", Slug: "upsert", Contenders: everybody(), Rows: 1, Setup: seed(seeded),
			session: writeSession(func(c *Client) writeFunc { return c.Upsert }, true),
			Goals:   []Goal{{Contender: ours, Replay: 0.60, Text: "replay ≤ 0.60"}},
		},
		{
			Name: "Count", Slug: "count", Contenders: some(), Rows: 1, Setup: seed(seeded),
			session: callSession(func(c *Client) func(context.Context) error { return c.Count }),
			Goals:   []Goal{{Contender: ours, MoreAllocs: 1, Text: "+ 0 allocations"}},
		},
		{
			Name: "Exists", Slug: "exists", Contenders: some(), Rows: 1, Setup: seed(seeded), session: existsSession,
			Goals: []Goal{{Contender: ours, MoreAllocs: 1, Text: "+ 0 allocations"}},
		},
		{
			Name: "Bulk insert of 10,000, no keys needed", Slug: "insert-10000", Rows: bulk, Setup: seed(0), Single: true, MakesKeys: true,
			Contenders: []Contender{CopyFrom(), RDSFX(), Unnest(), MultiValues(), Batch(), Bun(), GORM()},
			session:    bulkSession(func(c *Client) bulkFunc { return c.InsertMany }, bulk, withoutKeys),
			Goals:      []Goal{{Contender: ours, Live: 1.00, Allocs: 4, Text: "live ≤ 1.00, ≤ 4 allocations a row"}},
		},
		{
			Name: "Bulk insert of 10,000, keys returned", Slug: "insert-10000-keys", Rows: bulk, Setup: seed(0), Single: true, MakesKeys: true,
			Contenders: []Contender{CopyFrom(), RDSFX(), RDSFXKeys(), Unnest(), Bun(), GORM()},
			session:    bulkSession(func(c *Client) bulkFunc { return c.InsertReturning }, bulk, withoutKeys),
			Goals: []Goal{
				{Contender: ours, Live: 1.75, Text: "live ≤ 1.75"},
				{Contender: "rdsfx+keys", Live: 1.75, Text: "live ≤ 1.75 (stretch 1.00)"},
			},
		},
		{
			Name: "Bulk update of 1,000", Slug: "update-1000", Rows: updated, Setup: seed(updated), Single: true,
			Contenders: []Contender{Raw(), RDSFX(), Unnest(), Batch(), Bun(), GORM()},
			session:    bulkSession(func(c *Client) bulkFunc { return c.UpdateMany }, updated, changed),
			Goals:      []Goal{{Contender: ours, Live: 1.0 / 15, Allocs: 5, Text: "live ≤ 1/15, ≤ 5 allocations a row"}},
		},
		{
			Name: "Bulk upsert of 10,000", Slug: "upsert-10000", Rows: bulk, Setup: seed(bulk / 2), Single: true,
			Contenders: []Contender{Unnest(), RDSFX(), MultiValues(), Bun(), GORM()},
			session:    bulkSession(func(c *Client) bulkFunc { return c.UpsertMany }, bulk, changed),
			Goals:      []Goal{{Contender: ours, Live: 0.85, Text: "live ≤ 0.85"}},
		},
		{
			Name: "Transaction around 3 statements", Slug: "transaction", Rows: 1,
			Contenders: []Contender{
				BeginFunc(), Do("Do-unresolved", txn.ResolveCommit(txn.Unresolved)), Do("Do-witness"), BeginFuncPlain(), Bun(), GORM(),
			},
			session: callSession(func(c *Client) func(context.Context) error { return c.Transaction }),
			Goals: []Goal{
				{Contender: "Do-unresolved", Replay: 1.02, MoreAllocs: 2, Text: "replay ≤ 1.02 of BeginFunc on the same pool, + 1 allocation"},
				{Contender: "Do-witness", Text: "its price is stated"},
			},
		},
		{
			Name: "Statistics for a statement", Slug: "statement", Rows: 1, Contenders: pools(),
			session: callSession(func(c *Client) func(context.Context) error { return c.Statement }),
			Goals: []Goal{
				{Contender: ours, MoreTime: 300, MoreAllocs: 2, Text: "≤ + 0.3 µs, ≤ + 1 allocation"},
				{Contender: "unwatched", MoreAllocs: 1, Text: "nothing"},
			},
		},
		{
			Name: "Acquire and release", Slug: "acquire", Rows: 1, Contenders: pools(),
			session: callSession(func(c *Client) func(context.Context) error { return c.Acquire }),
			Goals:   []Goal{{Contender: ours, MoreTime: 100, MoreAllocs: 1, Text: "≤ + 100 ns, + 0 allocations"}},
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

// writeSession writes a single row, another one each time; existing ones come around again.
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

// seed empties the table and puts the first n rows into it.
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

package repo_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/repo"
)

// Request leaves its key and some more to the database.
type Request struct {
	ID      uuid.UUID `db:"id,pk,default"`
	Number  int32     `db:"number,generated"`
	Serial  int64     `db:"serial,default"`
	State   string    `db:"state,default"`
	Doc     json.RawMessage
	Note    *string   `db:"note,default"`
	Share   float64   `db:"share,readonly"`
	Made    time.Time `db:"made,default"`
	Because string    `db:"because"`
}

const ordersDDL = `create table orders (id uuid primary key default gen_random_uuid(), number integer not null generated always as identity,
		serial bigserial, state text not null default 'new', doc jsonb, note varchar(9) default 'a note', share float8 not null default 0.5,
		made timestamptz not null default now(), because text not null constraint orders_because_check check (because <> 'bad'))`

func manyRequests(n int) []Request {
	rows := make([]Request, n)
	for i := range rows {
		rows[i].Because = fmt.Sprint("because ", i)
		if rows[i].Doc = nil; i%2 == 0 {
			rows[i].Doc = json.RawMessage(fmt.Sprintf(`{"n": %d, "tags": ["ü"]}`, i))
		}
	}
	return rows
}

func TestCreateManyDrawsWhatIsLeftToTheDatabaseAndCopies(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ddl    string
		rows   int
		copied bool
	}{
		"defaults that depend on nothing":       {copied: true},
		"few rows":                              {rows: 63},
		"many rows":                             {rows: 3000, copied: true},
		"a default by an own function":          {ddl: "create function own() returns text language sql volatile as $$select count(*)::text from orders$$; alter table orders alter note set default own()"},
		"an own function with a known name":     {ddl: "create function uuidv7() returns uuid language sql volatile as $$select gen_random_uuid()$$; alter table orders alter id set default uuidv7()"},
		"a default that is an expression":       {ddl: "alter table orders alter serial set default nextval('orders_serial_seq') + currval('orders_serial_seq')"},
		"no default":                            {ddl: "alter table orders alter note drop default"},
		"a generated column":                    {ddl: "alter table orders drop share, add share float8 generated always as (0.25) stored"},
		"a domain":                              {ddl: "create domain tiny as bigint check (value < 0); alter table orders alter serial drop default, alter serial type tiny; alter table orders alter serial set default -1"},
		"a default that is longer":              {ddl: "alter table orders alter note type varchar(300); alter table orders alter note set default 'it''s \\ long'"},
		"a trigger":                             {ddl: "create function f() returns trigger language plpgsql as $$begin new.share = 1; return new; end$$; create trigger f before insert on orders for each row execute function f()"},
		"a document that the server rewrites":   {ddl: "select 1"},
		"a sequence that counts in large steps": {ddl: "alter sequence orders_serial_seq increment 1000 restart 5", copied: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			count := &counter{}
			m := managerOf(t, newDB(t, tracer(count)), ordersDDL)
			if c.ddl != "" {
				_, err := m.Exec(t.Context(), c.ddl, pgx.QueryExecModeSimpleProtocol)
				require.NoError(t, err)
			}
			orders := newRepo[Request, uuid.UUID](t, m, "orders")
			if c.rows == 0 {
				c.rows = 64
			}
			rows := manyRequests(c.rows)
			if strings.HasPrefix(name, "a document") {
				rows[7].Doc = json.RawMessage(`{"b":1,"a":2}`)
			}
			count.take()
			require.NoError(t, orders.CreateMany(t.Context(), rows))
			copied := slices.ContainsFunc(count.take(), func(text string) bool { return text == `copy "orders"` })
			assert.Equal(t, c.copied, copied)
			found, err := orders.Find(t.Context(), repo.Asc("number"))
			require.NoError(t, err)
			byNumber := slices.SortedFunc(slices.Values(rows), func(a, b Request) int { return int(a.Number - b.Number) })
			require.Equal(t, found, byNumber, "what the slice holds is what a read gives")
			for i := range rows {
				require.Equal(t, fmt.Sprint("because ", i), rows[i].Because, "and each row is still its own")
			}
		})
	}
}

func TestCreateManyDrawsNothingThatTheRoleMayNotUse(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ddl    string
		copied bool
	}{
		"everything":               {"grant all on sequence orders_number_seq, orders_serial_seq to app; grant insert on orders to app", true},
		"not the sequence":         {"grant all on sequence orders_serial_seq to app; grant insert on orders to app", false},
		"not the drawn columns":    {"grant all on sequence orders_number_seq, orders_serial_seq to app; grant insert (doc, because) on orders to app", false},
		"a policy in front of all": {"grant all on sequence orders_number_seq, orders_serial_seq to app; grant insert on orders to app; alter table orders enable row level security; create policy p on orders using (true)", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			count := &counter{}
			db := newDB(t, tracer(count))
			role := "app" + strings.ReplaceAll(uuid.NewString(), "-", "")
			m := managerOf(t, db, ordersDDL, "create role "+role, "grant select on orders to "+role)
			for statement := range strings.SplitSeq(strings.ReplaceAll(c.ddl, "to app", "to "+role), ";") {
				_, err := m.Exec(t.Context(), statement)
				require.NoError(t, err)
			}
			t.Cleanup(func() {
				for _, statement := range []string{"reset role", "drop owned by " + role, "drop role " + role} {
					_, err := m.Exec(context.Background(), statement)
					assert.NoError(t, err)
				}
			})
			orders := newRepo[Request, uuid.UUID](t, m, "orders")
			rows := manyRequests(70)
			count.take()
			require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
				if _, err := m.Exec(ctx, "set local role "+role); err != nil {
					return err
				}
				return orders.CreateMany(ctx, rows)
			}))
			assert.Equal(t, c.copied, slices.Contains(count.take(), `copy "orders"`))
			for i := range rows {
				got, err := orders.Get(t.Context(), rows[i].ID)
				require.NoError(t, err)
				require.Equal(t, *got, rows[i])
			}
		})
	}
}

func TestCreateManyBringsNothingBackWhenWhatItHasDrawnIsRefused(t *testing.T) {
	t.Parallel()
	m := newManager(t, ordersDDL)
	orders := newRepo[Request, uuid.UUID](t, m, "orders")
	rows := manyRequests(100)
	rows[98].Because = "bad"
	err := orders.CreateMany(t.Context(), rows)
	var constraint *repo.ConstraintError
	require.ErrorAs(t, err, &constraint)
	assert.Equal(t, 98, constraint.Index)
	want := manyRequests(100)
	want[98].Because = "bad"
	assert.Equal(t, want, rows)
	_, err = m.Exec(t.Context(), "alter table orders alter serial type smallint; alter sequence orders_serial_seq restart 32760", pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	require.ErrorContains(t, orders.CreateMany(t.Context(), manyRequests(100)), "22003")
	count, err := orders.Count(t.Context())
	require.NoError(t, err)
	assert.Zero(t, count)
}

// Paper has a document that is kept in both ways.
type Paper struct {
	ID     int64 `db:"id,pk,default"`
	Number int64
	Doc    json.RawMessage
	Text   json.RawMessage
}

// TestCreateManyHoldsTheDocumentsThatAReadGives writes random documents, most of them as the server writes them, and holds
// the slice to what is read. SEED repeats a run.
func TestCreateManyHoldsTheDocumentsThatAReadGives(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("SEED=%d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	count := &counter{}
	m := managerOf(t, newDB(t, tracer(count)), "create table papers (id bigint primary key generated by default as identity, number bigint not null, doc jsonb, text json)")
	papers := newRepo[Paper, int64](t, m, "papers")
	all := make([]string, 4000)
	for i := range all {
		all[i] = randomDocument(r, 3)
	}
	asIs := 0
	stored, err := repo.Pluck[string](t.Context(), m, "select d::jsonb::text from unnest($1::text[]) with ordinality u(d, n) order by n", all)
	require.NoError(t, err)
	for i := range all {
		if repo.StoredAsIs([]byte(all[i])) {
			asIs++
			require.Equal(t, stored[i], all[i])
		}
		plain := stored[i]
		foreign := strings.ContainsFunc(plain, func(c rune) bool { return c > '~' || c == '\\' })
		if !foreign && len(plain) < 60 {
			require.True(t, repo.StoredAsIs([]byte(plain)), plain)
		}
	}
	t.Logf("%d of %d are stored as they are", asIs, len(all))
	require.Greater(t, asIs, len(all)/10)
	require.Less(t, asIs, len(all)*9/10)
	for round := range 6 {
		rows := make([]Paper, 100)
		for i := range rows {
			from := all
			if round%2 == 0 {
				from = stored
			}
			rows[i] = Paper{Number: int64(round*1000 + i), Doc: json.RawMessage(pick(r, from...)), Text: json.RawMessage(pick(r, from...))}
		}
		require.NoError(t, papers.CreateMany(t.Context(), rows))
		found, err := papers.Find(t.Context(), repo.Asc("id"), repo.Gte("number", round*1000))
		require.NoError(t, err)
		slices.SortFunc(rows, func(a, b Paper) int { return int(a.ID - b.ID) })
		require.Equal(t, found, rows)
	}
}

// randomDocument returns a document as people and programs write them.
func randomDocument(r *rand.Rand, depth int) string {
	kind := r.IntN(8)
	if depth == 0 {
		kind = 2 + r.IntN(6)
	}
	space := pick(r, " ", " ", " ", " ", " ", "", "\n")
	list := func(element func(i int) string) string {
		elements := make([]string, r.IntN(4))
		for i := range elements {
			elements[i] = element(i)
		}
		return strings.Join(elements, ","+space)
	}
	switch kind {
	case 0:
		return "{" + list(func(i int) string {
			key := pick(r, strings.Repeat("k", i)+strconv.Itoa(i), pick(r, "", "a", "b", "longer", "schlüssel", `q\"`))
			return `"` + key + `":` + space + randomDocument(r, depth-1)
		}) + "}"
	case 1:
		return "[" + list(func(int) string { return randomDocument(r, depth-1) }) + "]"
	case 2:
		return pick(r, "true", "false", "null")
	case 3:
		return `"` + pick(r, "", "plain", "ünï 漢 🎈", `a \" quote`, `a \\`, `\/`, "/", `\u00fc`, `\n`, "\u007f", "'") + `"`
	case 4:
		return strconv.Itoa(r.IntN(2000) - 1000)
	case 5:
		return strconv.FormatFloat(r.NormFloat64()*1e3, 'f', r.IntN(6), 64)
	}
	return pick(r, "0", "-0", "0.0", "-0.0", "-0.00", "1e5", "1E-5", "1.50", "-0.5", "12e0", "100000000000000000000000000", "0e0", "-1.0e+2")
}

package repo_test

import (
	"database/sql"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/repo"
)

type Item struct {
	ID    int `db:"id,pk"`
	Group *int
	Name  sql.NullString
	Rank  int
	Doc   Settings `db:"doc,json"`
}

const itemsDDL = `create table items (id int primary key, "group" int, name text, rank int not null, doc jsonb not null)`

func TestPage_VisitsEveryRowOnceInBothDirections(t *testing.T) {
	t.Parallel()
	m := newManager(t, itemsDDL)
	items := newRepo[Item, int](t, m, "items")
	ctx := t.Context()
	random := rand.New(rand.NewPCG(1, 2))
	rows := make([]Item, 60)
	for i := range rows {
		rows[i] = Item{ID: i, Rank: random.IntN(3)}
		if random.IntN(3) > 0 {
			rows[i].Group = new(random.IntN(3))
		}
		if random.IntN(3) > 0 {
			rows[i].Name = sql.NullString{String: strconv.Itoa(random.IntN(3)), Valid: true}
		}
	}
	require.NoError(t, items.CreateMany(ctx, rows))
	for _, order := range [][]string{
		nil,
		{"rank"},
		{"rank desc"},
		{"rank desc", "id"},
		{"group"},
		{"group desc"},
		{"group nulls first"},
		{"group desc nulls last", "rank"},
		{"name desc nulls last", "group nulls first", "rank desc"},
		{"group desc", "name"},
		{"id desc"},
	} {
		for _, size := range []int{1, 7, 60, 100} {
			want, err := items.Find(ctx, repo.OrderBy(order...), repo.Where("id >= $1", 3), tieBreaker(order))
			require.NoError(t, err)
			var got []Item
			var pages []*repo.Page[Item]
			for at := ""; ; {
				page, err := items.Page(ctx, at, size, repo.Where("id >= $1", 3), repo.OrderBy(order...))
				require.NoError(t, err)
				pages, got = append(pages, page), append(got, page.Rows...)
				if at = page.Next; at == "" {
					break
				}
			}
			require.Equal(t, want, got, "%v by %d", order, size)
			for i := len(pages) - 1; i > 0; i-- {
				page, err := items.Page(ctx, pages[i].Previous, size, repo.Where("id >= $1", 3), repo.OrderBy(order...))
				require.NoError(t, err)
				require.Equal(t, pages[i-1].Rows, page.Rows, "back from page %d of %v by %d", i, order, size)
				require.Equal(t, pages[i-1].Previous == "", page.Previous == "", "%d", i)
				require.NotEmpty(t, page.Next)
			}
			require.Empty(t, pages[0].Previous)
		}
	}
}

// tieBreaker completes an order as Page does.
func tieBreaker(order []string) repo.QueryOption {
	if len(order) > 0 && slices.Contains([]string{"rank desc", "group desc", "group desc nulls last"}, order[len(order)-1]) {
		return repo.Desc("id")
	}
	return repo.Asc("id")
}

func TestPage_IsStableUnderConcurrentWrites(t *testing.T) {
	t.Parallel()
	items := newRepo[Item, int](t, newManager(t, itemsDDL), "items")
	ctx := t.Context()
	rows := []Item{{ID: 10, Rank: 10}, {ID: 20, Rank: 20}, {ID: 30, Rank: 30}, {ID: 40, Rank: 40}}
	require.NoError(t, items.CreateMany(ctx, rows))
	first, err := items.Page(ctx, "", 2, repo.Asc("rank"), repo.WithTotal())
	require.NoError(t, err)
	assert.EqualValues(t, 4, first.Total)
	require.NoError(t, items.Create(ctx, &Item{ID: 5, Rank: 5}))
	require.NoError(t, items.Delete(ctx, 20))
	second, err := items.Page(ctx, first.Next, 2, repo.Asc("rank"), repo.WithTotal())
	require.NoError(t, err)
	assert.Equal(t, rows[2:], second.Rows)
	assert.EqualValues(t, 4, second.Total, "the cursor doesn't affect the total")
	empty, err := items.Page(ctx, "", 2, repo.Gt("rank", 100))
	require.NoError(t, err)
	assert.Equal(t, &repo.Page[Item]{Rows: []Item{}, Total: -1}, empty)
}

func TestPage_RejectsForeignCursors(t *testing.T) {
	t.Parallel()
	m := newManager(t, itemsDDL)
	items := newRepo[Item, int](t, m, "items")
	ctx := t.Context()
	require.NoError(t, items.CreateMany(ctx, []Item{{ID: 1}, {ID: 2}}))
	page, err := items.Page(ctx, "", 1, repo.Asc("rank"))
	require.NoError(t, err)
	_, err = items.Page(ctx, page.Next, 1, repo.Asc("rank"))
	require.NoError(t, err)
	other := newRepo[Item, int](t, m, "others")
	for _, err := range []error{
		second(items.Page(ctx, page.Next, 1, repo.Desc("rank"))), second(items.Page(ctx, page.Next, 1)),
		second(other.Page(ctx, page.Next, 1, repo.Asc("rank"))), second(items.Page(ctx, page.Next+"AA", 1, repo.Asc("rank"))),
		second(items.Page(ctx, "!", 1)), second(items.Page(ctx, "AAAA", 1)),
	} {
		require.ErrorIs(t, err, repo.ErrQuery)
		require.ErrorIs(t, err, repo.ErrCursor)
		require.ErrorContains(t, err, "the cursor is damaged")
	}
	for want, err := range map[string]error{
		"page size 0":     second(items.Page(ctx, "", 0)),
		"no limit":        second(items.Page(ctx, "", 1, repo.Limit(1))),
		`no column "x"`:   second(items.Page(ctx, "", 1, repo.Asc("x"))),
		"which is JSON":   second(items.Page(ctx, "", 1, repo.Asc("doc"))),
		`"rank" twice`:    second(items.Page(ctx, "", 1, repo.Asc("rank"), repo.Desc("rank"))),
		"a filter is nil": second(items.Page(ctx, "", 1, repo.Or(nil))),
		"is empty":        second(items.Page(ctx, "", 1, repo.OrderBy(" "))),
	} {
		require.ErrorIs(t, err, repo.ErrQuery)
		require.NotErrorIs(t, err, repo.ErrCursor)
		require.ErrorContains(t, err, want)
	}
}

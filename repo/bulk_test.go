package repo_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/repo"
)

func TestCreateManyMatchesWhatComesBackToItsRow(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]repo.Option{
		"keys of the database":    nil,
		"keys of the application": {repo.WithKeys(uuid.New)},
	} {
		_, users := newUsers(t, opts...)
		rows := make([]User, 1001)
		for i := range rows {
			rows[i] = User{Email: fmt.Sprintf("user%d", i), Age: i}
			if i%3 == 0 {
				rows[i].Status = "old"
			}
		}
		require.NoError(t, users.CreateMany(t.Context(), rows), name)
		found, err := users.Find(t.Context(), repo.Asc("age"))
		require.NoError(t, err)
		require.Equal(t, found, rows, name)
		for i := range rows {
			require.Equal(t, strings.ToUpper(fmt.Sprintf("user%d", i)), rows[i].Shout)
		}
	}
}

func TestCreateManyHasNoLimitOfParametersAndAllOrNothing(t *testing.T) {
	t.Parallel()
	_, users := newUsers(t)
	ctx := t.Context()
	const n = 6500 // rows of eleven arguments: more than fit into one statement
	rows := make([]User, n)
	for i := range rows {
		rows[i] = User{Email: strconv.Itoa(i)}
	}
	rows[n-1].Email = "0"
	err := users.CreateMany(ctx, rows)
	var constraint *repo.ConstraintError
	require.ErrorAs(t, err, &constraint)
	assert.Equal(t, n-1, constraint.Index, "the bad row is named")
	count, err := users.Count(ctx)
	require.NoError(t, err)
	assert.Zero(t, count, "nothing is half-written")
	for i := range rows {
		require.Zero(t, rows[i].Version, "nor brought back")
		rows[i].ID = uuid.New()
	}
	rows[n-1].Email = "x"
	require.NoError(t, users.CreateMany(ctx, rows))
	count, err = users.Count(ctx)
	require.NoError(t, err)
	assert.EqualValues(t, n, count)
	require.NoError(t, users.CreateMany(ctx, nil))
}

func TestAKeyTwiceInOneBatchIsFoundBeforeTheServerDoes(t *testing.T) {
	t.Parallel()
	m := newManager(t, "create table pairs (left_id bigint, right_id text, note text not null, primary key (left_id, right_id))")
	r := newRepo[LeftRight, pairKey](t, m, "pairs")
	err := r.CreateMany(t.Context(), []LeftRight{{Left: 1, Right: "a"}, {Left: 1, Right: "b"}, {Left: 1, Right: "a"}})
	require.ErrorIs(t, err, repo.ErrInvalid)
	require.EqualError(t, err, "repo: invalid row for pairs at index 2: it has the same key as the row at index 0")
}

type Code struct {
	Code string `db:"code,pk"`
	N    int
}

func TestKeysThatComeBackChangedAreStillTheirRows(t *testing.T) {
	t.Parallel()
	m := newManager(t, "create table codes (code char(5) primary key, n int)")
	r := newRepo[Code, string](t, m, "codes")
	for _, n := range []int{2, 40, 300} { // a statement each, and those that tell rows by their keys in vain
		rows := make([]Code, n)
		for i := range rows {
			rows[i] = Code{Code: fmt.Sprintf("%d%c", n-i, 'a'+n%7), N: i}
		}
		require.NoError(t, r.CreateMany(t.Context(), rows))
		for i := range rows {
			assert.Equal(t, Code{Code: fmt.Sprintf("%-5s", fmt.Sprintf("%d%c", n-i, 'a'+n%7)), N: i}, rows[i])
		}
	}
	count, err := r.Count(t.Context())
	require.NoError(t, err)
	assert.EqualValues(t, 342, count)
}

type Defaults struct {
	ID   int64  `db:"id,pk,generated"`
	Note string `db:"note,default"`
}

func TestRowsOfNothingButDefaults(t *testing.T) {
	t.Parallel()
	m := newManager(t, "create table defaults (id bigint primary key generated always as identity, note text not null default 'x')")
	r := newRepo[Defaults, int64](t, m, "defaults")
	row := &Defaults{}
	require.NoError(t, r.Create(t.Context(), row))
	assert.Equal(t, &Defaults{1, "x"}, row)
	rows := make([]Defaults, 3)
	require.NoError(t, r.CreateMany(t.Context(), rows))
	assert.Equal(t, []Defaults{{2, "x"}, {3, "x"}, {4, "x"}}, rows)
}

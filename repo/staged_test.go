package repo_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// randomSource returns a random source. The environment variable SEED repeats an earlier run.
func randomSource(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if given, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64); err == nil {
		seed = given
	}
	t.Logf("SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func noon() time.Time { return time.Date(2024, 2, 29, 12, 0, 0, 123456000, time.UTC) }

// twins are two repositories on equal tables. One always writes many rows through a staging table, the other never does.
type twins struct {
	m              *txn.Manager
	staged, singly *repo.Repository[User, uuid.UUID]
}

func newTwins(t *testing.T) *twins {
	t.Helper()
	m := newManager(t, "create schema staged", "create schema singly",
		strings.Replace(usersDDL, "users", "staged.users", 1), strings.Replace(usersDDL, "users", "singly.users", 1))
	return &twins{
		m: m, staged: newRepo[User, uuid.UUID](t, m, "staged.users", repo.WithStagingThreshold(1), repo.WithClock(noon)),
		singly: newRepo[User, uuid.UUID](t, m, "singly.users", repo.WithStagingThreshold(-1), repo.WithClock(noon)),
	}
}

// seed truncates both tables and inserts the same users into them, some of them soft-deleted.
func (w *twins) seed(t *testing.T, r *rand.Rand, n int) []User {
	t.Helper()
	ctx := t.Context()
	rows := make([]User, n)
	for i := range rows {
		rows[i] = randomUser(r, "user"+strconv.Itoa(i))
	}
	_, err := w.m.Exec(ctx, "truncate staged.users, singly.users")
	require.NoError(t, err)
	for _, users := range []*repo.Repository[User, uuid.UUID]{w.staged, w.singly} {
		same := append([]User(nil), rows...)
		require.NoError(t, users.CreateMany(ctx, same))
		for i := range same {
			if i%7 == 3 {
				require.NoError(t, users.Delete(ctx, same[i].ID))
			}
		}
	}
	seeded, err := w.singly.Find(ctx, repo.WithDeleted(), repo.Asc("email"))
	require.NoError(t, err)
	return seeded
}

func randomUser(r *rand.Rand, email string) User {
	return User{
		ID: uuid.New(), Email: email, Name: maybe(r, randomText(r)), Age: r.IntN(90), Status: pick(r, "old", "odd"),
		Settings: Settings{Theme: randomText(r)}, Tags: pick(r, nil, []string{}, []string{"a", randomText(r)}),
		Address: Address{Street: randomText(r), City: maybe(r, "x")},
	}
}

// requireSame requires that both tables have the same content.
func (w *twins) requireSame(t *testing.T) {
	t.Helper()
	dump := func(schema string) []string {
		rows, err := repo.Pluck[string](t.Context(), w.m, "select u::text from "+schema+".users u order by id")
		require.NoError(t, err)
		return rows
	}
	require.Equal(t, dump("singly"), dump("staged"))
}

func requireSameError(t *testing.T, want, got error) {
	t.Helper()
	if want == nil {
		require.NoError(t, got)
		return
	}
	require.Error(t, got)
	unify := strings.NewReplacer("staged.", "", "singly.", "", `, column "status"`, "") // the error of COPY contains the column
	require.Equal(t, unify.Replace(want.Error()), unify.Replace(got.Error()))
}

func TestUpsertMany_StagedEqualsSingle(t *testing.T) {
	t.Parallel()
	r, w, ctx := randomSource(t), newTwins(t), t.Context()
	for name, opts := range map[string][]repo.UpsertOption{
		"by key":                 nil,
		"by column":              {repo.OnConflict("email")},
		"by constraint":          {repo.OnConstraint("users_email_key")},
		"restored":               {repo.OnConflict("email"), repo.RestoreDeleted()},
		"nothing":                {repo.OnConflict("email"), repo.DoNothing()},
		"nothing, by constraint": {repo.OnConstraint("users_email_key"), repo.DoNothing()},
		"nothing, by key":        {repo.DoNothing()},
	} {
		for round := range 4 {
			seeded := w.seed(t, r, 30)
			rows := make([]User, 0, 40)
			for i := range 20 {
				row := randomUser(r, "new"+strconv.Itoa(i))
				if i%2 == 0 {
					old := seeded[i]
					if row.Email = old.Email; name == "by key" || name == "nothing, by key" {
						row.ID = old.ID
					}
					if old.DeletedAt != nil && round%2 == 0 && !strings.Contains(name, "nothing") {
						continue // a soft-deleted row would be an error
					}
				}
				rows = append(rows, row)
			}
			if round == 3 {
				rows[r.IntN(len(rows))].Age = -1 // violates a check constraint
			}
			r.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
			same := append([]User(nil), rows...)
			want, wantErr := w.singly.UpsertMany(ctx, rows, opts...)
			got, err := w.staged.UpsertMany(ctx, same, opts...)
			requireSameError(t, wantErr, err)
			require.Equal(t, want, got, name)
			require.Equal(t, rows, same, name)
			w.requireSame(t)
		}
	}
}

func TestUpdateMany_StagedEqualsSingle(t *testing.T) {
	t.Parallel()
	r, w, ctx := randomSource(t), newTwins(t), t.Context()
	for name, modify := range map[string]func(*User){
		"valid":             func(*User) {},
		"stale":             func(u *User) { u.Version-- },
		"missing":           func(u *User) { u.ID = uuid.New() },
		"check constraint":  func(u *User) { u.Age = -1 },
		"not encodable":     func(u *User) { u.Status = "a\x00b" },
		"unique constraint": func(u *User) { u.Email = "user29" },
	} {
		seeded := w.seed(t, r, 30)
		rows := make([]User, 0, len(seeded))
		for i := range seeded {
			if old := seeded[i]; old.DeletedAt == nil && old.Email != "user29" {
				row := randomUser(r, old.Email+"x")
				row.ID, row.Version, row.CreatedAt = old.ID, old.Version, old.CreatedAt
				rows = append(rows, row)
			}
		}
		r.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
		modify(&rows[5])
		same := append([]User(nil), rows...)
		wantErr := w.singly.UpdateMany(ctx, rows)
		requireSameError(t, wantErr, w.staged.UpdateMany(ctx, same))
		require.Equal(t, name == "valid", wantErr == nil, "%v", wantErr)
		if wantErr != nil {
			require.Contains(t, wantErr.Error(), "index 5", name)
		}
		require.Equal(t, rows, same, name)
		w.requireSame(t)
	}
}

func TestCreateMany_StagedEqualsSingle(t *testing.T) {
	t.Parallel()
	r, w, ctx := randomSource(t), newTwins(t), t.Context()
	for name, modify := range map[string]func(*User){
		"valid":             func(*User) {},
		"check constraint":  func(u *User) { u.Age = -1 },
		"not encodable":     func(u *User) { u.Status = "a\x00b" },
		"unique constraint": func(u *User) { u.Email = "user1" },
	} {
		w.seed(t, r, 5)
		rows := make([]User, 40)
		for i := range rows {
			rows[i] = randomUser(r, "new"+strconv.Itoa(i))
		}
		modify(&rows[25])
		same := append([]User(nil), rows...)
		wantErr := w.singly.CreateMany(ctx, rows)
		requireSameError(t, wantErr, w.staged.CreateMany(ctx, same))
		require.Equal(t, name == "valid", wantErr == nil, "%v", wantErr)
		if wantErr != nil {
			require.Contains(t, wantErr.Error(), "index 25", name)
		}
		require.Equal(t, rows, same, name)
		w.requireSame(t)
	}
}

// Pair has a column of a composite type, which pgx can only send as text.
type Pair struct {
	ID    int64 `db:"id,pk"`
	Value string
}

func TestCreateMany_StagesManyRowsIfPossible(t *testing.T) {
	t.Parallel()
	count := &counter{}
	m := managerOf(t, newDB(t, tracer(count)), usersDDL, "create type pair as (a integer, b text)",
		"create table pairs (id bigint primary key, value pair not null)")
	staged := func() bool {
		return slices.ContainsFunc(count.drain(), func(text string) bool { return strings.HasPrefix(text, "copy \"pg_temp\"") })
	}
	r := randomSource(t)
	users := newRepo[User, uuid.UUID](t, m, "users")
	for _, n := range []int{255, 256} {
		rows := make([]User, n)
		for i := range rows {
			rows[i] = User{Email: fmt.Sprintf("%d of %d", i, n), Age: i}
		}
		r.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
		count.drain()
		require.NoError(t, users.CreateMany(t.Context(), rows))
		assert.Equal(t, n == 256, staged())
		for i := range rows {
			require.Equal(t, fmt.Sprintf("%d OF %d", rows[i].Age, n), rows[i].Shout, "results are assigned to the right rows")
		}
		found, err := users.GetMany(t.Context(), []uuid.UUID{rows[0].ID, rows[200].ID})
		require.NoError(t, err)
		require.Equal(t, []User{rows[0], rows[200]}, found)
	}
	pairs := newRepo[Pair, int64](t, m, "pairs")
	rows := make([]Pair, 300)
	for i := range rows {
		rows[i] = Pair{ID: int64(i), Value: fmt.Sprintf("(%d, x)", i)}
	}
	require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error { return pairs.CreateMany(ctx, rows) }),
		"rows that can't be staged are sent as text")
	require.Equal(t, `(299," x")`, rows[299].Value)
	for i := range rows {
		rows[i].Value = fmt.Sprintf("(%d, y)", i)
	}
	require.NoError(t, pairs.UpdateMany(t.Context(), rows))
	require.Equal(t, `(299," y")`, rows[299].Value)
	for i := range rows {
		rows[i].ID, rows[i].Value = rows[i].ID+150, fmt.Sprintf("(%d, z)", i)
	}
	outcomes, err := pairs.UpsertMany(t.Context(), rows, repo.DoNothing())
	require.NoError(t, err)
	require.Equal(t, []repo.UpsertResult{repo.Unchanged, repo.Inserted}, []repo.UpsertResult{outcomes[149], outcomes[150]})
	require.Equal(t, []string{`(299," y")`, `(150," z")`}, []string{rows[149].Value, rows[150].Value})
	for i := range rows {
		rows[i].ID += 1000
	}
	rows[298].Value = "(x, x)"
	require.ErrorContains(t, pairs.CreateMany(t.Context(), rows), "row at index 298")
}

// The name of a staging table must be free when the next call in the same transaction, or in a savepoint, needs it.
func TestStaging_MayRepeatInOneTransaction(t *testing.T) {
	t.Parallel()
	r, w, ctx := randomSource(t), newTwins(t), t.Context()
	w.seed(t, r, 3)
	rows := []User{randomUser(r, "a"), randomUser(r, "b")}
	require.NoError(t, w.m.Do(ctx, func(ctx context.Context) error {
		for range 3 {
			if _, err := w.staged.UpsertMany(ctx, rows); err != nil {
				return err
			}
			if err := w.staged.UpdateMany(ctx, rows); err != nil {
				return err
			}
			if _, err := w.staged.UpsertMany(ctx, rows, repo.DoNothing()); err != nil {
				return err
			}
		}
		bad := append([]User(nil), rows...)
		bad[1].Age = -1
		err := w.m.Do(ctx, func(ctx context.Context) error {
			_, err := w.staged.UpsertMany(ctx, bad)
			return err
		}, txn.Nested())
		require.ErrorIs(t, err, repo.ErrConstraint)
		require.ErrorContains(t, err, "index 1")
		_, err = w.staged.UpsertMany(ctx, rows)
		return err
	}))
	assert.EqualValues(t, 7, rows[0].Version)
	left, err := repo.QueryOne[int](ctx, w.m, "select count(*) from pg_class where relname like 'rdsfx%'")
	require.NoError(t, err)
	assert.Zero(t, left)
}

func TestUpsertMany_ConcurrentStagingDoesNotDeadlock(t *testing.T) {
	t.Parallel()
	r, w, ctx := randomSource(t), newTwins(t), t.Context()
	w.seed(t, r, 0)
	rows := make([]User, 50)
	for i := range rows {
		rows[i] = randomUser(r, strconv.Itoa(i))
	}
	done := make(chan error)
	const calls = 8
	for range calls {
		mine := append([]User(nil), rows...)
		r.Shuffle(len(mine), func(i, j int) { mine[i], mine[j] = mine[j], mine[i] })
		go func() {
			_, err := w.staged.UpsertMany(ctx, mine, repo.OnConflict("email"))
			done <- err
		}()
	}
	for range calls {
		require.NoError(t, <-done)
	}
	count, err := w.staged.Count(ctx)
	require.NoError(t, err)
	assert.EqualValues(t, len(rows), count)
	var version int64
	require.NoError(t, pool(w.m).QueryRow(ctx, "select sum(version) from staged.users").Scan(&version))
	assert.EqualValues(t, calls*len(rows), version)
}

func pool(m *txn.Manager) *pgxpool.Pool { return m.DB().Pool() }

package repo_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// Entry references an account. The server checks foreign keys at the end of a statement, and its error doesn't name the row.
type Entry struct {
	ID        int64  `db:"id,pk"`
	AccountID int    `db:"account_id"`
	Code      string `db:"code,default"`
	Amount    int32
	At        time.Time `db:"at,created"`
}

func (e *Entry) Validate() error {
	if e.Amount == -7 {
		return errors.New("seven is unlucky")
	}
	return nil
}

func newEntries(t *testing.T, opts ...repo.Option) (*txn.Manager, *repo.Repository[Entry, int64]) {
	t.Helper()
	m := newManager(t, "create table accounts (id int primary key)", "insert into accounts values (1), (2)",
		`create table entries (id bigint primary key, account_id int not null references accounts, code varchar(5) not null default 'x',
			amount int not null check (amount < 1000), at timestamptz not null)`)
	return m, newRepo[Entry, int64](t, m, "entries", opts...)
}

// entryAt returns the row at index i. Every 101st row is invalid, in alternating ways.
func entryAt(i int) Entry {
	row := Entry{ID: int64(i), AccountID: 1 + i%2, Amount: int32(i % 1000)}
	if i%3 == 0 {
		row.Code = "abc"
	}
	if i%101 != 50 {
		return row
	}
	switch i / 101 % 6 {
	case 0:
		row.ID = int64(i - 1) // an existing key
	case 1:
		row.AccountID = 9
	case 2:
		row.Code = "too long"
	case 3:
		row.Amount = 5000
	case 4:
		row.Amount = -7
	default:
		row.Code = "\xff"
	}
	return row
}

func TestOnRowError_SkipsOnlyInvalidRows(t *testing.T) {
	t.Parallel()
	m, entries := newEntries(t)
	const n = 3500
	for _, inside := range []bool{false, true} {
		var bad []int
		var last repo.Progress
		load := func(ctx context.Context) error {
			stored, err := entries.Import(ctx, sequence(n, func(i int) (Entry, error) { return entryAt(i), nil }),
				repo.OnRowError(func(err error) error {
					index := -1
					if invalid := (*repo.InvalidError)(nil); errors.As(err, &invalid) {
						index = invalid.Index
					} else if constraint := (*repo.ConstraintError)(nil); errors.As(err, &constraint) {
						index = constraint.Index
					} else if row := (*repo.RowError)(nil); errors.As(err, &row) {
						index = row.Index
					}
					require.ErrorContains(t, err, fmt.Sprintf("index %d", index))
					bad = append(bad, index)
					return nil
				}), repo.OnProgress(1000, func(p repo.Progress) { last = p }), repo.ExpectedRows(n))
			assert.EqualValues(t, n-len(bad), stored)
			return err
		}
		if inside {
			require.NoError(t, m.Do(t.Context(), load))
		} else {
			require.NoError(t, load(t.Context()))
		}
		slices.Sort(bad)
		var want []int
		for i := 50; i < n; i += 101 {
			want = append(want, i)
		}
		require.Equal(t, want, bad)
		assert.EqualValues(t, n, last.Rows)
		assert.EqualValues(t, len(want), last.Skipped)
		assert.Zero(t, last.Remaining)
		ids, err := repo.Column[int64](t.Context(), entries, "id", repo.Asc("id"))
		require.NoError(t, err)
		require.Len(t, ids, n-len(want))
		row, err := entries.Get(t.Context(), 4)
		require.NoError(t, err)
		assert.Equal(t, "x", row.Code, "rows may differ in the columns with database defaults")
		assert.WithinDuration(t, time.Now(), row.At, time.Hour)
		_, err = entries.DeleteWhere(t.Context(), repo.AllRows())
		require.NoError(t, err)
	}
}

func TestOnRowError_SkipsAllRows(t *testing.T) {
	t.Parallel()
	_, entries := newEntries(t)
	skipped := 0
	n, err := entries.Import(t.Context(), sequence(1500, func(int) (Entry, error) { return Entry{ID: 1, AccountID: 1}, nil }),
		repo.OnRowError(func(error) error { skipped++; return nil }))
	require.NoError(t, err)
	assert.EqualValues(t, 1, n)
	assert.Equal(t, 1499, skipped)
}

func TestOnRowError_OtherErrorsEndTheImport(t *testing.T) {
	t.Parallel()
	m, entries := newEntries(t)
	enough := errors.New("too many bad rows")
	for name, c := range map[string]struct {
		at   func(i int) (Entry, error)
		skip func(error) error
		want error
	}{
		"error from OnRowError": {
			func(i int) (Entry, error) { return entryAt(i), nil }, func(error) error { return enough }, enough,
		},
		"error from the sequence": {
			func(i int) (Entry, error) {
				if i == 1400 {
					return Entry{}, io.ErrUnexpectedEOF
				}
				return entryAt(i), nil
			}, nil, io.ErrUnexpectedEOF,
		},
	} {
		n, err := entries.Import(t.Context(), sequence(2000, c.at), repo.OnRowError(c.skip))
		require.ErrorIs(t, err, c.want, name)
		assert.Zero(t, n)
	}
	_, err := m.Exec(t.Context(), "alter table entries rename column amount to total")
	require.NoError(t, err)
	_, err = entries.Import(t.Context(), sequence(2000, func(i int) (Entry, error) { return Entry{ID: int64(i), AccountID: 1}, nil }),
		repo.OnRowError(func(err error) error { return fmt.Errorf("reported as a row error: %w", err) }))
	require.ErrorContains(t, err, "amount")
	require.NotContains(t, err.Error(), "reported as a row error")
	ctx, cancel := context.WithCancel(t.Context())
	_, err = entries.Import(ctx, sequence(2000, func(i int) (Entry, error) {
		if i == 1500 {
			cancel()
		}
		return Entry{ID: int64(i), AccountID: 1}, nil
	}), repo.OnRowError(nil))
	require.Error(t, err)
	count, err := repo.QueryOne[int](t.Context(), m, "select count(*) from entries")
	require.NoError(t, err)
	assert.Zero(t, count)
}

// A sequence can't be read twice, so even a manager with retries runs the import once.
func TestOnRowError_IsNotRetried(t *testing.T) {
	t.Parallel()
	m, _ := newEntries(t)
	_, err := m.Exec(t.Context(), `create function f() returns trigger language plpgsql as
		$$begin raise exception 'again' using errcode = '40001'; end$$; create trigger f before insert on entries execute function f()`)
	require.NoError(t, err)
	again, err := txn.NewManager(m.DB(), txn.WithDefaults(txn.Retry(pgfx.RetryPolicy{})))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, again.Close(context.Background())) })
	entries := newRepo[Entry, int64](t, again, "entries")
	_, err = entries.Import(t.Context(), sequence(3, func(i int) (Entry, error) { return Entry{ID: int64(i), AccountID: 1}, nil }),
		repo.OnRowError(nil))
	require.ErrorIs(t, err, repo.ErrQuery)
	require.ErrorContains(t, err, "the sequence can't")
}

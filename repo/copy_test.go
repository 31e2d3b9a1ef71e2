package repo_test

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/repo"
)

// Blob has values of arbitrary size.
type Blob struct {
	ID    int64 `db:"id,pk"`
	Words string
	Bytes []byte
}

const blobsDDL = "create table blobs (id bigint primary key, words text not null, bytes bytea)"

// sequenceOf returns a sequence of rows.
func sequenceOf[T any](rows ...T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, row := range rows {
			if !yield(row, nil) {
				return
			}
		}
	}
}

func TestImport_CopiesRowsOfAllSizes(t *testing.T) {
	t.Parallel()
	m := newManager(t, blobsDDL)
	blobs := newRepo[Blob, int64](t, m, "blobs")
	const buffer = 65531 // the size of the chunks that pgx sends
	var rows []Blob
	for _, size := range []int{0, 1, 100, buffer - 100, buffer, 3 * buffer, 10, 1 << 20, 5, 5} {
		for near := range 70 {
			if size < 100 || near%7 == 0 {
				n := max(0, size-near)
				rows = append(rows, Blob{int64(len(rows)), strings.Repeat("x", n), []byte(strings.Repeat("y", n%999))})
			}
		}
	}
	rows[3].Bytes = nil
	n, err := blobs.Import(t.Context(), sequenceOf(rows...))
	require.NoError(t, err)
	assert.Equal(t, int64(len(rows)), n)
	for got, err := range blobs.All(t.Context(), repo.Asc("id")) {
		require.NoError(t, err)
		want := rows[got.ID]
		require.True(t, want.Words == got.Words && bytes.Equal(want.Bytes, got.Bytes) && (want.Bytes == nil) == (got.Bytes == nil), got.ID)
	}
}

func TestImport_FollowsColumnTypes(t *testing.T) {
	t.Parallel()
	m := newManager(t, thingsDDL)
	things := newRepo[Thing, int64](t, m, "things")
	for i, typ := range []string{"bigint", "double precision", "numeric", "smallint"} {
		require.NoError(t, second(m.Exec(t.Context(), "alter table things alter column count type "+typ+" using count::"+typ)))
		id := int64(i)
		require.NoError(t, second(things.Import(t.Context(), sequenceOf(Thing{ID: id, Count: 1000 + id}))))
		values, err := repo.Pluck[string](t.Context(), m, "select count::text from things where id = $1", id)
		require.NoError(t, err)
		assert.Equal(t, []string{strconv.Itoa(1000 + i)}, values, typ)
	}
}

func TestImport_FailureStoresNothing(t *testing.T) {
	t.Parallel()
	m := newManager(t, thingsDDL)
	things := newRepo[Thing, int64](t, m, "things")
	failure := errors.New("failing sequence")
	fail := func(rows int64, err error) iter.Seq2[Thing, error] {
		return func(yield func(Thing, error) bool) {
			for i := range rows {
				if !yield(Thing{ID: i}, nil) {
					return
				}
			}
			yield(Thing{Count: 1 << 40}, err)
		}
	}
	for _, rows := range []int64{0, 1, 20_000} {
		_, err := things.Import(t.Context(), fail(rows, failure))
		require.ErrorIs(t, err, failure)
		_, err = things.Import(t.Context(), fail(rows, nil))
		require.ErrorContains(t, err, `the value for column "count" (field Count) can't be sent as type integer`)
		require.NotContains(t, err.Error(), "1099511627776")
	}
	require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
		return second(things.Import(ctx, sequenceOf(Thing{ID: 1})))
	}))
	n, err := things.Count(t.Context())
	require.NoError(t, err)
	assert.Equal(t, int64(1), n)
}

func TestImport_ConnectionLossEndsTheSequence(t *testing.T) {
	t.Parallel()
	m := newManager(t, thingsDDL)
	things := newRepo[Thing, int64](t, m, "things")
	running := false
	_, err := things.Import(t.Context(), func(yield func(Thing, error) bool) {
		running = true
		defer func() { running = false }()
		for i := range int64(1 << 40) {
			if i%10_000 == 9_999 { // the server may not have started the COPY the first time
				_, err := m.Exec(t.Context(), "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and query like 'copy%' and pid <> pg_backend_pid()")
				assert.NoError(t, err) //nolint:testifylint // runs on another goroutine
			}
			if !yield(Thing{ID: i}, nil) {
				return
			}
		}
	})
	require.Error(t, err)
	assert.False(t, running)
	n, err := things.Count(t.Context())
	require.NoError(t, err)
	assert.Zero(t, n)
}

// pgx reads the sequence on its own goroutine. There, a panic would end the process, and Goexit would block the import forever.
func TestImport_PanicAndGoexitReachTheCaller(t *testing.T) {
	t.Parallel()
	m := newManager(t, thingsDDL)
	things := newRepo[Thing, int64](t, m, "things")
	for _, at := range []int64{0, 1, 20_000} {
		breaking := func(with func()) iter.Seq2[Thing, error] {
			return func(yield func(Thing, error) bool) {
				for i := range at {
					if !yield(Thing{ID: i}, nil) {
						return
					}
				}
				with()
			}
		}
		for _, opts := range [][]repo.ImportOption{nil, {repo.OnRowError(nil)}} {
			assert.PanicsWithValue(t, "mine", func() { _, _ = things.Import(t.Context(), breaking(func() { panic("mine") }), opts...) })
			ended := make(chan bool)
			go func() {
				returned := false
				defer func() { ended <- !returned }()
				_, _ = things.Import(t.Context(), breaking(runtime.Goexit), opts...)
				returned = true
			}()
			assert.True(t, <-ended)
		}
	}
	n, err := things.Count(t.Context())
	require.NoError(t, err)
	assert.Zero(t, n)
	assert.Eventually(t, func() bool { return m.DB().Pool().Stat().AcquiredConns() == 0 }, waitTimeout, time.Millisecond)
}

func TestImport_IsVisibleToTracers(t *testing.T) {
	t.Parallel()
	count := &counter{}
	m := managerOf(t, newDB(t, tracer(count)), thingsDDL)
	things := newRepo[Thing, int64](t, m, "things")
	require.NoError(t, second(repo.CheckSchema(t.Context(), m, things.Model()))) // reads the columns
	count.drain()
	require.NoError(t, second(things.Import(t.Context(), sequenceOf(Thing{ID: 1}))))
	assert.Contains(t, count.drain(), "copy "+pgx.Identifier{"things"}.Sanitize())
	statements := m.DB().Statements()
	assert.Contains(t, statementTexts(statements), `copy "things" from stdin`)
}

func statementTexts(statements []pgfx.Statement) []string {
	list := make([]string, len(statements))
	for i := range statements {
		list[i] = statements[i].Text
	}
	return list
}

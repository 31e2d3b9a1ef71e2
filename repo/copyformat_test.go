package repo_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/repo"
)

// quote has columns whose types the driver lacks, so a COPY of it is text, and columns whose binary form differs from their text.
type quote struct {
	ID     int64     `db:"id,pk"`
	Price  string    `db:"price"`
	Mark   string    `db:"mark"`
	Path   string    `db:"path"`
	Day    time.Time `db:"day"`
	Weight float64   `db:"weight"`
	Series []float64 `db:"series"`
	Note   *string   `db:"note"`
}

func TestBulkWrites_StoreTypesThatTheDriverLacks(t *testing.T) {
	t.Parallel()
	m := newManager(t, "create domain day as date", `create table quotes (id bigint primary key, price money, mark pg_lsn,
		path jsonpath, day day, weight real, series real[], note text)`)
	quotes := newRepo[quote, int64](t, m, "quotes", repo.WithStagingThreshold(2))
	ctx := t.Context()
	east := time.Date(2024, 3, 1, 0, 30, 0, 0, time.FixedZone("+02:00", 7200))
	text := "tab\tnewline\nbackslash\\ \\N"
	var rows []quote
	for i, weight := range []float64{5e-324, 1.1, 1e300, math.Inf(-1), math.NaN(), math.Copysign(0, -1), math.MaxFloat32} {
		rows = append(rows, quote{
			int64(i), "12345.67", "16/B374D848", "$.a[*]", east, weight, []float64{weight, 0.1, 5e-324}, &text,
		})
	}
	rows = append(rows, quote{ID: 100, Price: "0", Mark: "0/0", Path: "$", Day: east})
	stored := func() []string {
		list, err := repo.Pluck[string](ctx, m, "select q::text from quotes q order by id")
		require.NoError(t, err)
		return list
	}
	reset := func() {
		_, err := m.Exec(ctx, "truncate quotes")
		require.NoError(t, err)
	}
	for i := range rows {
		row := rows[i]
		require.NoError(t, quotes.Create(ctx, &row))
	}
	created := stored()
	require.Contains(t, created[0], "12,345.67")
	for name, write := range map[string]func() error{
		"copy":                func() error { return second(quotes.CopyMany(ctx, rows)) },
		"import":              func() error { return second(quotes.Import(ctx, sequenceOf(rows...))) },
		"create many, staged": func() error { return quotes.CreateMany(ctx, append([]quote(nil), rows...)) },
		"upsert many, staged": func() error { return second(quotes.UpsertMany(ctx, append([]quote(nil), rows...))) },
		"update many, staged": func() error {
			_, err := m.Exec(ctx, "insert into quotes (id) select unnest($1::bigint[])", []int64{0, 1, 2, 3, 4, 5, 6, 100})
			require.NoError(t, err)
			return quotes.UpdateMany(ctx, append([]quote(nil), rows...))
		},
	} {
		reset()
		require.NoError(t, write(), name)
		assert.Equal(t, created, stored(), name)
	}
}

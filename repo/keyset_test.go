package repo_test

import (
	"database/sql/driver"
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/repo"
)

// Grade has a JSON form from which its value can't be restored.
type Grade int

func (Grade) MarshalJSON() ([]byte, error) { return []byte(`"a grade"`), nil }

// Secret is masked in JSON and is sent as bytes.
type Secret struct { //nolint:recvcheck // the interfaces require it
	text string
}

func (s *Secret) Scan(src any) error          { s.text, _ = src.(string); return nil }
func (s Secret) Value() (driver.Value, error) { return []byte(s.text), nil }
func (Secret) MarshalJSON() ([]byte, error)   { return []byte(`"***"`), nil }
func (*Secret) UnmarshalJSON([]byte) error    { return nil }

// Awkward has columns whose values JSON can't represent or represents differently from the database.
type Awkward struct {
	ID       int64                     `db:"id,pk"`
	Until    pgtype.Timestamptz        `db:"until"`
	Long     *time.Time                `db:"long"`
	Ratio    *float64                  `db:"ratio"`
	Small    float32                   `db:"small"`
	Amount   pgtype.Numeric            `db:"amount"`
	Doc      json.RawMessage           `db:"doc"`
	Raw      []byte                    `db:"raw"`
	Tags     []string                  `db:"tags"`
	Span     pgtype.Range[pgtype.Int4] `db:"span"`
	Interval pgtype.Interval           `db:"interval"`
	Grade    Grade                     `db:"grade"`
	Size     uint32                    `db:"size"`
	Secret   Secret                    `db:"secret"`
	Done     *bool                     `db:"done"`
	Any      any                       `db:"any"`
	Precise  time.Time                 `db:"precise"`
}

const awkwardDDL = `
create table awkward (id bigint primary key, until timestamptz, long timestamp, ratio float8, small float4 not null, amount numeric,
	doc jsonb, raw bytea, tags text[], span int4range, interval interval, grade int not null, size bigint not null,
	secret text not null, done bool, "any" bigint, precise timestamptz not null);
insert into awkward select g,
	(array['infinity', '-infinity', '2020-01-01', '4713-01-01 BC', '20000-01-01', null])[1 + g % 6]::timestamptz,
	(array['4713-01-01 BC', '0001-01-01', '20000-01-01', '2020-01-01 00:00:00.000001', null])[1 + g % 5]::timestamp,
	(array['NaN', 'Infinity', '-Infinity', '0.1', '-0', null])[1 + g % 6]::float8,
	(array['NaN', 'Infinity', '0.1', '3.4e38', '1e-45'])[1 + g % 5]::float4,
	(array['NaN', 'Infinity', '1.50', '0.00001', null])[1 + g % 5]::numeric,
	(array['null', '{}', '[1]', '1.0', null])[1 + g % 5]::jsonb,
	(array['\x00', '\x', '\xff', null])[1 + g % 4]::bytea,
	(array['{}', '{a,b}', null])[1 + g % 3]::text[],
	(array['empty', '[1,2)', '(,5]', null])[1 + g % 4]::int4range,
	(array['1 mon', '30 days', '-1 day', null])[1 + g % 4]::interval,
	g % 3, 4294967295 - g % 3, (array['', 'x', 'null'])[1 + g % 3], (array[true, false, null])[1 + g % 3],
	(array[1, 9007199254740993, null])[1 + g % 3]::bigint,
	timestamptz '2020-01-01' + g % 3 * interval '1 us'
from generate_series(1, 30) g`

func TestPage_VisitsEveryRowOnceForAllTypes(t *testing.T) {
	t.Parallel()
	rows := newRepo[Awkward, int64](t, newManager(t, awkwardDDL), "awkward")
	ctx := t.Context()
	typ := reflect.TypeFor[Awkward]()
	for i := range typ.NumField() {
		column := typ.Field(i).Tag.Get("db")
		if i == 0 {
			continue
		}
		for _, order := range []repo.Order{repo.Asc(column), repo.Asc(column).NullsFirst()} {
			want, err := repo.Column[int64](ctx, rows, "id", order, repo.Asc("id"))
			require.NoError(t, err)
			var got []int64
			var cursors []string
			for at := ""; len(got) <= len(want); {
				page, err := rows.Page(ctx, at, 4, order)
				require.NoError(t, err, column)
				for _, row := range page.Rows {
					got = append(got, row.ID)
				}
				cursors = append(cursors, page.Previous)
				if at = page.Next; at == "" {
					break
				}
			}
			assert.Equal(t, want, got, column)
			for n, at := range cursors[1:] {
				page, err := rows.Page(ctx, at, 4, order)
				require.NoError(t, err, column)
				require.Len(t, page.Rows, 4, "%s: backwards from page %d", column, n+1)
				assert.Equal(t, want[4*n], page.Rows[0].ID, "%s: backwards from page %d", column, n+1)
			}
		}
	}
}

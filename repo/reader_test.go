package repo_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// Thing is a model of a table whose column types change during tests.
type Thing struct {
	ID    int64 `db:"id,pk"`
	Count int64
	Label *string
}

const thingsDDL = "create table things (id bigint primary key, count integer not null, label text)"

func TestRowPlan_FollowsColumnTypes(t *testing.T) {
	t.Parallel()
	m := newManager(t, thingsDDL)
	things := newRepo[Thing, int64](t, m, "things")
	label := "a"
	require.NoError(t, things.Create(t.Context(), &Thing{ID: 1, Count: 7, Label: &label}))
	for _, typ := range []string{"bigint", "smallint", "numeric", "integer"} {
		got, err := things.Get(t.Context(), 1)
		require.NoError(t, err)
		assert.Equal(t, Thing{ID: 1, Count: 7, Label: &label}, *got)
		_, err = m.Exec(t.Context(), "alter table things alter column count type "+typ+", alter column label type varchar(9)")
		require.NoError(t, err)
		list, err := things.Find(t.Context())
		require.NoError(t, err, typ)
		assert.Equal(t, []Thing{{ID: 1, Count: 7, Label: &label}}, list)
	}
}

func TestRowPlan_ReportsScanErrors(t *testing.T) {
	t.Parallel()
	m := newManager(t, thingsDDL, "alter table things alter column count drop not null", "insert into things values (1, null, 'a')")
	things := newRepo[Thing, int64](t, m, "things")
	for range 2 {
		_, err := things.Get(t.Context(), 1)
		require.ErrorContains(t, err, `NULL of column "count" can't be read into field Count of type int64`)
		_, err = things.Find(t.Context())
		require.ErrorContains(t, err, `NULL of column "count" can't be read into field Count of type int64`)
	}
	_, err := m.Exec(t.Context(), "update things set count = 2")
	require.NoError(t, err)
	got, err := things.Get(t.Context(), 1)
	require.NoError(t, err)
	assert.Equal(t, int64(2), got.Count)
}

// upperCodec is an application's codec for text, which scans upper-case strings.
type upperCodec struct{ pgtype.TextCodec }

func (upperCodec) PlanScan(m *pgtype.Map, oid uint32, format int16, target any) pgtype.ScanPlan {
	if _, ok := target.(*string); ok {
		return upperPlan{}
	}
	return pgtype.TextCodec{}.PlanScan(m, oid, format, target)
}

type upperPlan struct{}

func (upperPlan) Scan(src []byte, target any) error {
	*target.(*string) = strings.ToUpper(string(src))
	return nil
}

func TestRowPlan_UsesRegisteredCodecs(t *testing.T) {
	t.Parallel()
	type Fixed struct {
		ID   int64 `db:"id,pk"`
		Code string
	}
	db := newDB(t, pgfx.WithAfterConnect(func(_ context.Context, conn *pgx.Conn) error {
		conn.TypeMap().RegisterType(&pgtype.Type{Name: "bpchar", OID: pgtype.BPCharOID, Codec: binaryOnly{}})
		return nil
	}))
	m := managerOf(t, db, "create table fixed (id bigint primary key, code char(3) not null)", "insert into fixed values (1, 'abc')")
	got, err := newRepo[Fixed, int64](t, m, "fixed").Get(t.Context(), 1)
	require.NoError(t, err)
	assert.Equal(t, "ABC", got.Code)
}

// binaryOnly prefers the binary format. In the text format, pgx scans into a string without a codec.
type binaryOnly struct{ upperCodec }

func (binaryOnly) PreferredFormat() int16 { return pgtype.BinaryFormatCode }

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

// Thing has columns whose types change under it.
type Thing struct {
	ID    int64 `db:"id,pk"`
	Count int64
	Label *string
}

const thingsDDL = "create table things (id bigint primary key, count integer not null, label text)"

func TestRowsAreReadAsTheirColumnsAreNow(t *testing.T) {
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

func TestARowThatDoesNotFitGivesPgxsError(t *testing.T) {
	t.Parallel()
	m := newManager(t, thingsDDL, "alter table things alter column count drop not null", "insert into things values (1, null, 'a')")
	things := newRepo[Thing, int64](t, m, "things")
	for range 2 {
		_, err := things.Get(t.Context(), 1)
		require.ErrorContains(t, err, "(col: count): cannot scan NULL into *int64")
		_, err = things.Find(t.Context())
		require.ErrorContains(t, err, "(col: count): cannot scan NULL into *int64")
	}
	_, err := m.Exec(t.Context(), "update things set count = 2")
	require.NoError(t, err)
	got, err := things.Get(t.Context(), 1)
	require.NoError(t, err)
	assert.Equal(t, int64(2), got.Count)
}

// loud is an application's codec for text.
type loud struct{ pgtype.TextCodec }

func (loud) PlanScan(m *pgtype.Map, oid uint32, format int16, target any) pgtype.ScanPlan {
	if _, ok := target.(*string); ok {
		return scanLoud{}
	}
	return pgtype.TextCodec{}.PlanScan(m, oid, format, target)
}

type scanLoud struct{}

func (scanLoud) Scan(src []byte, target any) error {
	*target.(*string) = strings.ToUpper(string(src))
	return nil
}

func TestAnApplicationsOwnCodecReadsItsColumns(t *testing.T) {
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

// binaryOnly asks for the binary format: pgx reads text into a string without asking a codec.
type binaryOnly struct{ loud }

func (binaryOnly) PreferredFormat() int16 { return pgtype.BinaryFormatCode }

package pgcodec_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/internal/pgcodec"
)

type word string

const unknownOID = 99999

func listMap() *pgtype.Map {
	m := pgtype.NewMap()
	pgcodec.RegisterLists(m)
	pgcodec.Register(m)
	return m
}

func TestLists_OfUnknownTypesAreText(t *testing.T) {
	t.Parallel()
	m := listMap()
	a := word("a")
	for want, value := range map[string]any{
		`{a,"b \"c\"","NULL",""}`:                []word{"a", `b "c"`, "NULL", ""},
		`{a,NULL}`:                               []*word{&a, nil},
		`{{a,b},{c,d}}`:                          [][]word{{"a", "b"}, {"c", "d"}},
		`{1,2}`:                                  pgtype.FlatArray[int8]{1, 2},
		`{"2026-01-02 03:04:05Z"}`:               []time.Time{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)},
		`{00000000-0000-0000-0000-000000000000}`: []uuid.UUID{{}},
		`{}`:                                     []word{},
	} {
		for _, oid := range []uint32{0, unknownOID} {
			got, err := m.Encode(oid, pgtype.TextFormatCode, value, nil)
			require.NoError(t, err, want)
			assert.Equal(t, want, string(got))
		}
	}
	_, err := m.Encode(unknownOID, pgtype.BinaryFormatCode, []word{a}, nil)
	require.Error(t, err, "the binary form needs the type of the elements")
	got, err := m.Encode(unknownOID, pgtype.TextFormatCode, []word(nil), nil)
	require.NoError(t, err)
	assert.Nil(t, got)
	for _, value := range []any{[]chan int{make(chan int)}, [][]word{{"a"}, {}}, [16]byte{}, [][16]byte{{}}} {
		_, err = m.Encode(unknownOID, pgtype.TextFormatCode, value, nil)
		require.Error(t, err, value)
	}

	var grid [][]word
	require.NoError(t, m.Scan(unknownOID, pgtype.TextFormatCode, []byte(`{{a,b},{c,d}}`), &grid))
	assert.Equal(t, [][]word{{"a", "b"}, {"c", "d"}}, grid)
	var words []word
	require.NoError(t, m.Scan(unknownOID, pgtype.TextFormatCode, []byte(`{a,"b c"}`), &words))
	assert.Equal(t, []word{"a", "b c"}, words)
	require.NoError(t, m.Scan(unknownOID, pgtype.TextFormatCode, nil, &words))
	assert.Nil(t, words)
	var nullable []*word
	require.NoError(t, m.Scan(unknownOID, pgtype.TextFormatCode, []byte(`{a,NULL}`), &nullable))
	assert.Equal(t, []*word{&a, nil}, nullable)
	require.Error(t, m.Scan(unknownOID, pgtype.TextFormatCode, []byte(`a`), &words))
	require.Error(t, m.Scan(unknownOID, pgtype.BinaryFormatCode, []byte{0}, &words))
}

// Registered types keep pgx's codecs. A list is refused for a column that isn't an array.
func TestLists_LeaveKnownTypesToTheirCodecs(t *testing.T) {
	t.Parallel()
	m := listMap()
	stock := pgtype.NewMap()
	for _, oid := range []uint32{pgtype.Int4OID, pgtype.TextArrayOID, pgtype.Int4ArrayOID, pgtype.JSONBOID, pgtype.UUIDOID} {
		for _, format := range []int16{pgtype.TextFormatCode, pgtype.BinaryFormatCode} {
			want, wantErr := stock.Encode(oid, format, []word{"a", "b"}, nil)
			got, err := m.Encode(oid, format, []word{"a", "b"}, nil)
			assert.Equal(t, wantErr == nil, err == nil, oid)
			assert.Equal(t, want, got, oid)
		}
		var words []word
		require.Equal(t, stock.Scan(oid, pgtype.TextFormatCode, []byte(`{a}`), &words) == nil,
			m.Scan(oid, pgtype.TextFormatCode, []byte(`{a}`), &words) == nil, oid)
	}
	assert.True(t, pgcodec.HasStockScanWrappers(m))
	assert.True(t, pgcodec.HasStockEncodeWrappers(m))
}

package pgcodec_test

import (
	"math"
	"math/big"
	"reflect"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/internal/pgcodec"
)

func TestNumbers_TextIsReadAsTheBinaryForm(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		oid     uint32
		text    string
		binary  any // of which the binary form is made; the server sends zero without digits
		targets []any
	}{
		{pgtype.Float4OID, "0.1", float32(0.1), []any{new(float32), new(float64), new(pgtype.Float8), new(*float64)}},
		{pgtype.Float4OID, "1e+10", float32(1e10), []any{new(int64), new(uint64)}},
		{pgtype.Float4OID, "-Infinity", float32(math.Inf(-1)), []any{new(float64)}},
		{pgtype.Float8OID, "1e+18", 1e18, []any{new(int64), new(float64), new(pgtype.Int8)}},
		{pgtype.NumericOID, "0.00", pgtype.Numeric{Int: big.NewInt(0), Valid: true}, []any{new(pgtype.Numeric), new(*pgtype.Numeric)}},
		{pgtype.NumericOID, "1.50", pgtype.Numeric{Int: big.NewInt(150), Exp: -2, Valid: true}, []any{new(pgtype.Numeric), new(float64)}},
		{pgtype.NumericOID, "NaN", pgtype.Numeric{NaN: true, Valid: true}, []any{new(pgtype.Numeric)}},
		{pgtype.Float4ArrayOID, "{0.1,NULL}", []*float32{new(float32(0.1)), nil}, []any{new([]*float64)}},
		{pgtype.NumericArrayOID, "{0.0}", []pgtype.Numeric{{Int: big.NewInt(0), Valid: true}}, []any{new([]pgtype.Numeric)}},
	} {
		for name, register := range map[string]func(*pgtype.Map){"fast": pgcodec.Register, "exact": pgcodec.RegisterExact} {
			m := pgtype.NewMap()
			register(m)
			binary, err := m.Encode(c.oid, pgtype.BinaryFormatCode, c.binary, nil)
			require.NoError(t, err)
			for _, target := range c.targets {
				want, got := reflect.New(reflect.TypeOf(target).Elem()), reflect.New(reflect.TypeOf(target).Elem())
				require.NoError(t, m.Scan(c.oid, pgtype.BinaryFormatCode, binary, want.Interface()), "%s %s %T", name, c.text, target)
				require.NoError(t, m.Scan(c.oid, pgtype.TextFormatCode, []byte(c.text), got.Interface()), "%s %s %T", name, c.text, target)
				assert.Equal(t, want.Elem().Interface(), got.Elem().Interface(), "%s %s %T", name, c.text, target)
			}
		}
	}
	m, _ := both()
	for _, oid := range []uint32{pgtype.Float4OID, pgtype.Float8OID, pgtype.NumericOID} {
		require.Error(t, m.Scan(oid, pgtype.TextFormatCode, nil, new(float64)))
		require.NoError(t, m.Scan(oid, pgtype.TextFormatCode, nil, new(pgtype.Numeric)))
		require.Error(t, m.Scan(oid, pgtype.TextFormatCode, []byte("x"), new(float64)))
		require.Error(t, m.Scan(oid, pgtype.TextFormatCode, []byte("1.5"), new(int64)))
	}
}

// The server cuts a name of more than 63 bytes in text, and refuses it in binary.
func TestNames_ListsAreSentAsText(t *testing.T) {
	t.Parallel()
	m, stock := both()
	long := strings.Repeat("long", 20)
	for _, types := range []*pgtype.Map{m, stock} {
		got := send(types, pgtype.NameArrayOID, []string{"a", long})
		assert.EqualValues(t, pgtype.TextFormatCode, got.format)
		assert.Equal(t, "{a,"+long+"}", string(got.bytes[len(before):]))
	}
}

func TestCanScan_RecognizesTypesThatDoNotFit(t *testing.T) {
	t.Parallel()
	m, _ := both()
	assert.False(t, pgcodec.CanScan(m.PlanScan(pgtype.DateOID, pgtype.BinaryFormatCode, new(string))))
	assert.True(t, pgcodec.CanScan(m.PlanScan(pgtype.DateOID, pgtype.TextFormatCode, new(string))))
	assert.True(t, pgcodec.CanScan(m.PlanScan(pgtype.Int4OID, pgtype.BinaryFormatCode, new(int64))))
}

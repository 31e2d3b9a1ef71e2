package pgcodec

import (
	"encoding/binary"
	"math"
	"reflect"
	"strconv"

	"github.com/jackc/pgx/v5/pgtype"
)

// Results are text in the exec modes exec and simple_protocol, and binary in the others. These codecs read the text as pgx reads the
// binary form.

//nolint:gochecknoglobals // never changed
var (
	realType    = &pgtype.Type{Name: "float4", OID: pgtype.Float4OID, Codec: realCodec{}}
	doubleType  = &pgtype.Type{Name: "float8", OID: pgtype.Float8OID, Codec: doubleCodec{}}
	numericType = &pgtype.Type{Name: "numeric", OID: pgtype.NumericOID, Codec: numericCodec{}}
	// namesType sends names as text. The server cuts the text of a name after 63 bytes and refuses longer ones in binary.
	namesType = &pgtype.Type{Name: "_name", OID: pgtype.NameArrayOID, Codec: textArrayCodec{
		&pgtype.ArrayCodec{ElementType: &pgtype.Type{Name: "name", OID: pgtype.NameOID, Codec: pgtype.TextCodec{}}},
	}}
)

// realCodec reads the text of a real with the precision of a real. pgx reads 0.1 into a float64 as 0.1, which isn't the value of
// the real.
type realCodec struct{ pgtype.Float4Codec }

func (c realCodec) PlanScan(m *pgtype.Map, oid uint32, format int16, target any) pgtype.ScanPlan {
	if format == pgtype.TextFormatCode && isFloatTarget(target) {
		return scanFloatText{32, c.Float4Codec.PlanScan(m, oid, pgtype.BinaryFormatCode, target)}
	}
	return c.Float4Codec.PlanScan(m, oid, format, target)
}

// doubleCodec reads the text of a double precision that is a whole number into an integer, also with an exponent as in 1e+18.
type doubleCodec struct{ pgtype.Float8Codec }

func (c doubleCodec) PlanScan(m *pgtype.Map, oid uint32, format int16, target any) pgtype.ScanPlan {
	if format == pgtype.TextFormatCode && isFloatTarget(target) {
		return scanFloatText{64, c.Float8Codec.PlanScan(m, oid, pgtype.BinaryFormatCode, target)}
	}
	return c.Float8Codec.PlanScan(m, oid, format, target)
}

// isFloatTarget reports whether pgx scans a number into the target by way of a float64 or an int64.
func isFloatTarget(target any) bool {
	switch target.(type) {
	case pgtype.Float64Scanner, pgtype.Int64Scanner:
		return true
	}
	return false
}

// scanFloatText scans the text of a float of this many bits with a plan for its binary form.
type scanFloatText struct {
	bits   int
	binary pgtype.ScanPlan
}

func (p scanFloatText) Scan(src []byte, target any) error {
	if src == nil {
		return p.binary.Scan(nil, target) //nolint:wrapcheck // pgx names the column and wraps
	}
	n, err := strconv.ParseFloat(string(src), p.bits)
	if err != nil {
		return err
	}
	var buf [8]byte
	if p.bits == 32 { //nolint:mnd // a real
		binary.BigEndian.PutUint32(buf[:], math.Float32bits(float32(n)))
		return p.binary.Scan(buf[:4], target) //nolint:wrapcheck // as above
	}
	binary.BigEndian.PutUint64(buf[:], math.Float64bits(n))
	return p.binary.Scan(buf[:], target) //nolint:wrapcheck // as above
}

// numericCodec reads the text of zero without its scale, which pgx doesn't read from the binary form.
type numericCodec struct{ pgtype.NumericCodec }

func (c numericCodec) PlanScan(m *pgtype.Map, oid uint32, format int16, target any) pgtype.ScanPlan {
	plan := c.NumericCodec.PlanScan(m, oid, format, target)
	if _, ok := target.(pgtype.NumericScanner); ok && format == pgtype.TextFormatCode {
		return scanNumericText{plan}
	}
	return plan
}

type scanNumericText struct{ text pgtype.ScanPlan }

func (p scanNumericText) Scan(src []byte, target any) error {
	var n pgtype.Numeric
	if err := p.text.Scan(src, &n); err != nil {
		return err //nolint:wrapcheck // pgx names the column and wraps
	}
	if n.Int != nil && n.Int.Sign() == 0 {
		n.Exp = 0
	}
	//nolint:forcetypeassert,wrapcheck // the plan was made for this type; as above
	return target.(pgtype.NumericScanner).ScanNumeric(n)
}

// textArrayCodec is pgx's codec for arrays, restricted to text.
type textArrayCodec struct{ *pgtype.ArrayCodec }

func (textArrayCodec) FormatSupported(format int16) bool { return format == pgtype.TextFormatCode }

func (textArrayCodec) PreferredFormat() int16 { return pgtype.TextFormatCode }

// unscannable is the type of pgx's plan for a value that can't be scanned. pgx doesn't export it; no value scans into a channel.
//
//nolint:gochecknoglobals // never changed
var unscannable = reflect.TypeOf(pgtype.NewMap().PlanScan(pgtype.BoolOID, pgtype.BinaryFormatCode, new(chan int)))

// CanScan reports whether a plan can scan any value but NULL. If it can't, pgx scans NULL as a value of a type that it picks at
// random.
func CanScan(plan pgtype.ScanPlan) bool { return reflect.TypeOf(plan) != unscannable }

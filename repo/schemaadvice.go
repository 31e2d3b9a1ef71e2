package repo

import (
	"math"
	"reflect"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// checkValues advises of values that the field or the column can hold and the other one can't. Elements of arrays are checked like
// single values.
func (c *checker) checkValues(column *column, live *liveColumn) {
	if column.roles.is(roleJSON) {
		return
	}
	field, oid := column.typ, live.Base
	for field.Kind() == reflect.Pointer {
		field = field.Elem()
	}
	stock := pgtype.NewMap()
	if known, ok := stock.TypeForOID(oid); ok {
		if array, isArray := known.Codec.(*pgtype.ArrayCodec); isArray && field.Kind() == reflect.Slice {
			field, oid = field.Elem(), array.ElementType.OID
		}
	}
	for field.Kind() == reflect.Pointer {
		field = field.Elem()
	}
	c.checkInteger(column, live, oid, field)
	c.checkDigits(column, live, oid, field)
}

// checkInteger compares the ranges of an integer field and its column. A version is left out: it counts from 1.
func (c *checker) checkInteger(column *column, live *liveColumn, oid uint32, field reflect.Type) {
	if isLeaf(field) || column.roles.is(roleVersion) {
		return
	}
	var need, most int // bits without a sign: of the field's values, and of the largest column whose values the field should hold
	switch field.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		need = field.Bits() - 1
		most = need
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		need = field.Bits()
		most = 2*need - 1 //nolint:mnd // of the smallest signed column that holds all of them
	default:
		return
	}
	have, fractions, ok := columnBits(oid, live.Typmod)
	if !ok {
		return
	}
	if have < need && column.written() {
		wide := sqlTypeOf(column.typ)
		if need > pgBigintBits {
			wide = "numeric(20)" + strings.Repeat("[]", strings.Count(live.Type, "[]"))
		}
		c.advisef(Overflow, column, c.alter(column)+" type "+wide, "has column %q of type %s, and field %s of type %v can hold larger numbers: "+
			"writing one would fail", column.name, live.Type, column.field, column.typ)
	}
	if have > most || fractions {
		c.advisef(Overflow, column, "", "has column %q of type %s, which can hold numbers that field %s of type %v can't: "+
			"reading one would fail; give the field a larger type, pgtype.Numeric for numeric", column.name, live.Type, column.field, column.typ)
	}
}

// pgBigintBits are the bits of a bigint without its sign.
const pgBigintBits = 63

// columnBits returns how many bits a column has for whole numbers, without the sign, and whether it holds fractions. ok is false
// for a type that isn't a number.
func columnBits(oid uint32, typmod int32) (bits int, fractions, ok bool) {
	switch oid {
	case pgtype.Int2OID:
		return 15, false, true //nolint:mnd // PostgreSQL manual, "Numeric Types"
	case pgtype.Int4OID:
		return 31, false, true //nolint:mnd // see above
	case pgtype.Int8OID:
		return pgBigintBits, false, true
	case pgtype.NumericOID:
		digits, scale, limited := numericModifier(typmod)
		if !limited {
			return math.MaxInt, true, true
		}
		return int(float64(digits-scale) * math.Log2(10)), scale > 0, true //nolint:mnd // bits of decimal digits
	default:
		return 0, false, false
	}
}

// checkDigits finds conversions that keep only a part of a value.
func (c *checker) checkDigits(column *column, live *liveColumn, oid uint32, field reflect.Type) {
	lost := func(fix, consequence string) {
		c.advisef(LostPrecision, column, fix, "has column %q of type %s, and field %s of type %v: %s",
			column.name, live.Type, column.field, column.typ, consequence)
	}
	switch kind := field.Kind(); {
	case oid == pgtype.NumericOID && holdsMoreDigits(live.Typmod, kind):
		lost("", "digits beyond those of a float are lost when it is read; use pgtype.Numeric or a string")
	case oid == pgtype.Float8OID && kind == reflect.Float32:
		lost("", "digits beyond those of a float32 are lost when it is read; use float64")
	case oid == pgtype.Float4OID && kind == reflect.Float64 && column.written():
		lost(c.alter(column)+" type "+sqlTypeOf(column.typ), "digits beyond those of a real are lost when it is written")
	case oid == pgtype.IntervalOID && field == reflect.TypeFor[time.Duration]():
		lost("", "months can't be read, because their length differs; use pgtype.Interval")
	case cutsTimes(oid, live.Typmod) && field == reflect.TypeFor[time.Time]() && column.written():
		lost(c.alter(column)+" type "+sqlTypeOf(column.typ), "the column doesn't keep the microseconds")
	}
}

// cutsTimes reports whether a column keeps less than the microseconds of a time.
func cutsTimes(oid uint32, typmod int32) bool {
	const microseconds = 6
	return (oid == pgtype.TimestampOID || oid == pgtype.TimestamptzOID) && typmod >= 0 && typmod < microseconds
}

// holdsMoreDigits reports whether a numeric column has more decimal digits than a float of this kind. It is false for another kind.
func holdsMoreDigits(typmod int32, kind reflect.Kind) bool {
	kept := map[reflect.Kind]int{reflect.Float32: 6, reflect.Float64: 15}[kind] // C's FLT_DIG and DBL_DIG
	digits, _, limited := numericModifier(typmod)
	return kept > 0 && (!limited || digits > kept)
}

// numericModifier returns the digits of numeric(digits, scale). ok is false for a numeric without a limit (PostgreSQL's
// src/backend/utils/adt/numeric.c, make_numeric_typmod).
func numericModifier(typmod int32) (digits, scale int, ok bool) {
	const header = 4
	if typmod < header {
		return 0, 0, false
	}
	packed := typmod - header
	return int(packed >> 16 & 0xffff), int(packed&0x7ff^1024) - 1024, true //nolint:mnd // see make_numeric_typmod
}

// checkNull advises of a field that can be nil for a column that refuses NULL. A column with a role is filled in another way.
func (c *checker) checkNull(column *column, live *liveColumn) {
	pointer := column.typ.Kind() == reflect.Pointer || column.typ.PkgPath() == "database/sql"
	if !live.NotNull || !pointer || column.roles != 0 || column.indirect || live.Base == pgtype.JSONOID || live.Base == pgtype.JSONBOID {
		return
	}
	c.advisef(NeverNull, column, c.alter(column)+" drop not null", "refuses NULL in column %q, and field %s of type %v can be NULL: "+
		"writing such a row would fail; use a type without NULL", column.name, column.field, column.typ)
}

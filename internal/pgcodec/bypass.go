package pgcodec

import (
	"database/sql"
	"database/sql/driver"
	"encoding"
	"encoding/json"
	"reflect"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5/pgtype"
)

// Origin is where the codec for a column type comes from.
type Origin uint8

const (
	// Foreign is a codec that the application has registered. It is never bypassed.
	Foreign Origin = iota
	// Stock is the codec of pgx's default map.
	Stock
	// Fast is a codec of this package.
	Fast
	// Enum is pgx's codec for an enum that the application has registered.
	Enum
	// Unknown is a type that the map has no codec for, such as an enum that is not registered. pgx then chooses by the Go type.
	Unknown
)

// OriginOf returns the origin of the codec that a map uses for a column type.
func OriginOf(m *pgtype.Map, oid uint32) Origin {
	typ, ok := m.TypeForOID(oid)
	if !ok {
		return Unknown
	}
	if stock, ok := stockMap().TypeForOID(oid); ok && typ == stock || slices.Contains(exactTypes, typ) {
		return Stock
	}
	if slices.Contains(types, typ) {
		return Fast
	}
	if _, ok := typ.Codec.(*pgtype.EnumCodec); ok {
		return Enum
	}
	return Foreign
}

// IsStockFor reports whether a map maps the type of a Go value to a column type as pgx's default map does.
func IsStockFor(m *pgtype.Map, value any) bool {
	typ, _ := m.TypeForValue(value)
	stock, _ := stockMap().TypeForValue(value)
	return typ == stock
}

// HasStockScanWrappers reports whether a map has exactly the wrapper functions for scanning that pgx and [RegisterLists] give it.
func HasStockScanWrappers(m *pgtype.Map) bool {
	return sameFuncs(without(m.TryWrapScanPlanFuncs, wrapListTarget), stockMap().TryWrapScanPlanFuncs)
}

// HasStockEncodeWrappers reports whether a map has exactly the wrapper functions for encoding that pgx, [Register] and
// [RegisterLists] give it.
func HasStockEncodeWrappers(m *pgtype.Map) bool {
	funcs := without(without(m.TryWrapEncodePlanFuncs, wrapSlice), wrapList)
	return sameFuncs(funcs, stockMap().TryWrapEncodePlanFuncs)
}

// without returns functions without the first one, if it is this one.
func without[F any](funcs []F, first F) []F {
	if len(funcs) > 0 && sameFunc(funcs[0], first) {
		return funcs[1:]
	}
	return funcs
}

// sameFuncs compares functions by their code. All of pgx's wrappers and ours are declared at package level, so no other function
// shares their code.
func sameFuncs[F any](a, b []F) bool { return slices.EqualFunc(a, b, sameFunc[F]) }

func sameFunc[F any](a, b F) bool {
	return reflect.ValueOf(a).Pointer() == reflect.ValueOf(b).Pointer()
}

// stockMap returns a map as pgx makes it. It must not be changed.
var stockMap = sync.OnceValue(func() *pgtype.Map { //nolint:gochecknoglobals // made once, never changed
	m := pgtype.NewMap()
	m.TypeForValue(nil) // builds the map's index, so that later calls only read
	return m
})

// conversionInterfaces are the interfaces by which the codecs of the bypassed types let a value take part in its own conversion. The
// text, binary and JSON interfaces are among them although pgx uses only JSON's: a type that has them is no plain value.
var conversionInterfaces = []reflect.Type{
	reflect.TypeFor[sql.Scanner](), reflect.TypeFor[driver.Valuer](),
	reflect.TypeFor[encoding.TextMarshaler](), reflect.TypeFor[encoding.TextUnmarshaler](),
	reflect.TypeFor[encoding.BinaryMarshaler](), reflect.TypeFor[encoding.BinaryUnmarshaler](),
	reflect.TypeFor[json.Marshaler](), reflect.TypeFor[json.Unmarshaler](),
	reflect.TypeFor[pgtype.SkipUnderlyingTypePlanner](),
	reflect.TypeFor[pgtype.BoolScanner](), reflect.TypeFor[pgtype.BoolValuer](),
	reflect.TypeFor[pgtype.Int64Scanner](), reflect.TypeFor[pgtype.Int64Valuer](),
	reflect.TypeFor[pgtype.Float64Scanner](), reflect.TypeFor[pgtype.Float64Valuer](),
	reflect.TypeFor[pgtype.TextScanner](), reflect.TypeFor[pgtype.TextValuer](),
	reflect.TypeFor[pgtype.BytesScanner](), reflect.TypeFor[pgtype.BytesValuer](),
	reflect.TypeFor[pgtype.UUIDScanner](), reflect.TypeFor[pgtype.UUIDValuer](),
	reflect.TypeFor[pgtype.TimestamptzScanner](), reflect.TypeFor[pgtype.TimestamptzValuer](),
	reflect.TypeFor[pgtype.TimestampScanner](), reflect.TypeFor[pgtype.TimestampValuer](),
	reflect.TypeFor[pgtype.DateScanner](), reflect.TypeFor[pgtype.DateValuer](),
}

// ConvertsItself reports whether a type, or a pointer to it, has methods that take part in its conversion.
func ConvertsItself(typ reflect.Type) bool {
	return slices.ContainsFunc(conversionInterfaces, reflect.PointerTo(typ).Implements)
}

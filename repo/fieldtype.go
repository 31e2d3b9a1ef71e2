package repo

import (
	"database/sql"
	"database/sql/driver"
	"encoding"
	"encoding/json"
	"reflect"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// leafInterfaces are the interfaces of structs that are one value for the driver.
var leafInterfaces = []reflect.Type{
	reflect.TypeFor[sql.Scanner](), reflect.TypeFor[driver.Valuer](),
	reflect.TypeFor[encoding.TextUnmarshaler](), reflect.TypeFor[encoding.BinaryUnmarshaler](), reflect.TypeFor[json.Unmarshaler](),
}

// isLeaf reports whether a struct is one value for the driver, such as time.Time or pgtype.Range, and not several columns.
func isLeaf(typ reflect.Type) bool {
	if isForeign(typ) {
		return true
	}
	pointer := reflect.PointerTo(typ)
	for _, one := range leafInterfaces {
		if typ.Implements(one) || pointer.Implements(one) {
			return true
		}
	}
	return false
}

// isForeign reports whether a type belongs to a package whose types the driver converts.
func isForeign(typ reflect.Type) bool {
	switch path := typ.PkgPath(); path {
	case "database/sql", "time", "net", "net/netip", "math/big":
		return true
	default:
		return strings.HasPrefix(path, "github.com/jackc/pgx/v5")
	}
}

// unfit returns the reason why a field's type can't be a column, "" if it can.
func unfit(typ reflect.Type) string {
	inner := typ
	for inner.Kind() == reflect.Pointer {
		inner = inner.Elem()
	}
	switch inner.Kind() {
	case reflect.Chan, reflect.Func, reflect.UnsafePointer, reflect.Uintptr, reflect.Complex64, reflect.Complex128:
		return "has type " + typ.String() + ", which no column can hold: exclude it with `db:\"-\"`"
	case reflect.Interface:
		if inner.NumMethod() > 0 {
			return "has the interface type " + typ.String() + ", into which nothing can be read: use a concrete type, or exclude it with `db:\"-\"`"
		}
	case reflect.Struct:
		if value, ok := sqlNull(inner); ok {
			return "has type " + typ.String() + ", which package database/sql can neither read nor write: use *" + value.String()
		}
	default:
	}
	return ""
}

// sqlNull returns T if a type is a sql.Null[T] for a T that database/sql doesn't convert, such as a slice.
func sqlNull(typ reflect.Type) (reflect.Type, bool) {
	value, found := typ.FieldByName("V")
	if !found || typ.PkgPath() != "database/sql" || value.Type == reflect.TypeFor[time.Time]() {
		return nil, false
	}
	if reflect.PointerTo(value.Type).Implements(reflect.TypeFor[sql.Scanner]()) {
		return nil, false
	}
	switch value.Type.Kind() {
	case reflect.Slice:
		return value.Type, value.Type.Elem().Kind() != reflect.Uint8
	case reflect.Map, reflect.Struct, reflect.Array:
		return value.Type, true
	default:
		return nil, false
	}
}

// misfit returns the reason why a field's type can't have these roles, "" if it can.
func misfit(typ reflect.Type, roles role) string {
	switch {
	case roles.is(roleVersion) && !isInteger(typ):
		return "has the role version and must be an integer"
	case roles.is(roleCreated|roleUpdated) && !isTime(typ):
		return "has the role created or updated and must be a time.Time, or one that can be NULL"
	case roles.is(roleSoftDelete) && typ.Kind() != reflect.Bool && !isNullableTime(typ):
		return "has the role softdelete and must be a bool or a timestamp that can be NULL, such as *time.Time"
	case roles.is(roleJSON):
		return misfitJSON(typ)
	case roles.is(rolePK) && isNullable(typ) && typ.Kind() != reflect.Slice && typ.Kind() != reflect.Struct:
		return "has the role pk and can be NULL: a primary key can't, so use a type without nil"
	}
	return ""
}

func misfitJSON(typ reflect.Type) string {
	if isLeaf(typ) || typ.Kind() == reflect.String || typ == reflect.TypeFor[[]byte]() {
		return "has the role json and a type that is sent as it is: remove the role, or use a struct, a map or a slice"
	}
	return ""
}

func isInteger(typ reflect.Type) bool {
	switch typ.Kind() {
	case reflect.Int, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uint:
		return true
	default:
		return false
	}
}

func isTime(typ reflect.Type) bool { return typ == reflect.TypeFor[time.Time]() || isNullableTime(typ) }

func isNullableTime(typ reflect.Type) bool {
	switch typ {
	case reflect.TypeFor[*time.Time](), reflect.TypeFor[sql.NullTime](), reflect.TypeFor[sql.Null[time.Time]](),
		reflect.TypeFor[pgtype.Timestamptz](), reflect.TypeFor[pgtype.Timestamp]():
		return true
	}
	return false
}

// isNullable reports whether a type can hold NULL. Every sql.Scanner is assumed to. So do the zero values of package net/netip.
func isNullable(typ reflect.Type) bool {
	if typ.PkgPath() == "net/netip" {
		return true
	}
	switch typ.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface:
		return true
	default:
	}
	if isUUID(typ) {
		return false // Scan accepts NULL and leaves a zero key
	}
	pointer := reflect.PointerTo(typ)
	return pointer.Implements(reflect.TypeFor[sql.Scanner]()) || strings.HasPrefix(typ.PkgPath(), "github.com/jackc/pgx/v5")
}

// isUUID reports whether a type is an array of 16 bytes, as in google/uuid and gofrs/uuid.
func isUUID(typ reflect.Type) bool {
	return typ.Kind() == reflect.Array && typ.Len() == 16 && typ.Elem().Kind() == reflect.Uint8
}

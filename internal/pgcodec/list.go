package pgcodec

import (
	"database/sql/driver"
	"fmt"
	"math"
	"reflect"

	"github.com/jackc/pgx/v5/pgtype"
)

// RegisterLists makes a connection's map convert lists for array types without a codec. These are arrays of enums, composites and
// extension types that aren't registered. In the modes exec and simple_protocol the types of all parameters are unknown.
//
// A list is sent and read as the text of an array. Its elements are converted as single values of an unknown type are: by their Go
// type. Without this, pgx converts single values and []string only. Types with a codec are not affected.
func RegisterLists(m *pgtype.Map) {
	m.TryWrapEncodePlanFuncs = append([]pgtype.TryWrapEncodePlanFunc{wrapList}, m.TryWrapEncodePlanFuncs...)
	m.TryWrapScanPlanFuncs = append([]pgtype.TryWrapScanPlanFunc{wrapListTarget}, m.TryWrapScanPlanFuncs...)
	m.RegisterType(listType)
	m.RegisterDefaultPgType(list{}, listType.Name)
	m.RegisterDefaultPgType(listTarget{}, listType.Name)
}

// listType is the type that a map assumes for a list whose type in the database is unknown. Its OID is beyond those of a server.
//
//nolint:gochecknoglobals // never changed
var listType = &pgtype.Type{Name: "rdsfx list", OID: math.MaxUint32, Codec: listCodec{
	// The zero OID of the elements has no codec, so that they are converted by their Go type.
	textArrayCodec{&pgtype.ArrayCodec{ElementType: &pgtype.Type{Codec: pgtype.TextCodec{}}}},
}}

// listCodec is restricted to text because the binary form names the type of the elements.
type listCodec struct{ textArrayCodec }

// PlanEncode returns a plan for any list, if the elements of this one can be encoded. pgx keeps plans by Go type, which is the same
// for all lists.
func (c listCodec) PlanEncode(m *pgtype.Map, _ uint32, format int16, value any) pgtype.EncodePlan {
	values, ok := value.(list)
	if !ok || format != pgtype.TextFormatCode || c.planValues(m, values.slice) == nil {
		return nil
	}
	return &encodeValues{codec: c, types: m}
}

// planValues returns the plan for a slice, nil if it can't be encoded.
func (c listCodec) planValues(m *pgtype.Map, slice any) pgtype.EncodePlan {
	wrap := pgtype.TryWrapSliceEncodePlan
	if isSlice(reflect.TypeOf(slice).Elem()) {
		wrap = pgtype.TryWrapMultiDimSliceEncodePlan
	}
	plan, values, ok := wrap(slice)
	if !ok {
		return nil
	}
	next := c.ArrayCodec.PlanEncode(m, listType.OID, pgtype.TextFormatCode, values)
	if next == nil {
		return nil
	}
	plan.SetNext(next)
	return plan
}

func (c listCodec) PlanScan(m *pgtype.Map, oid uint32, format int16, target any) pgtype.ScanPlan {
	values, ok := target.(listTarget)
	if !ok || format != pgtype.TextFormatCode {
		return nil
	}
	element := reflect.TypeOf(values.ScanIndexType())
	if element.Kind() == reflect.Pointer && (isSlice(element.Elem()) || element.Elem().Kind() == reflect.Uint8) {
		return nil
	}
	return c.ArrayCodec.PlanScan(m, oid, format, target)
}

// isSlice reports whether a type is a list. Bytes are a value.
func isSlice(typ reflect.Type) bool {
	return typ.Kind() == reflect.Slice && typ.Elem().Kind() != reflect.Uint8
}

// list is a slice. A map assumes listType for it if its type in the database is unknown. The codecs of other types refuse it.
type list struct{ slice any }

// encodeValues encodes a list.
type encodeValues struct {
	codec listCodec
	types *pgtype.Map
}

func (p *encodeValues) Encode(value any, buf []byte) ([]byte, error) {
	slice := value.(list).slice //nolint:forcetypeassert // the plan was made for this type
	plan := p.codec.planValues(p.types, slice)
	if plan == nil {
		return nil, fmt.Errorf("the elements of %T can't be encoded for an unknown type", slice)
	}
	return plan.Encode(slice, buf) //nolint:wrapcheck // pgx names the argument and wraps
}

// listTarget is a slice into which pgx scans an array, as list for encoding.
type listTarget struct{ pgtype.ArraySetter }

// wrapList is a wrapper function in pgx's sense. Go arrays are no lists: most are identifiers.
func wrapList(value any) (plan pgtype.WrappedEncodePlanNextSetter, next any, ok bool) {
	if typ := reflect.TypeOf(value); typ == nil || !isSlice(typ) {
		return nil, nil, false
	}
	if _, ok := value.(driver.Valuer); ok {
		return nil, nil, false
	}
	return &encodeList{}, list{value}, true
}

type encodeList struct{ next pgtype.EncodePlan }

func (p *encodeList) SetNext(next pgtype.EncodePlan) { p.next = next }

func (p *encodeList) Encode(value any, buf []byte) ([]byte, error) {
	return p.next.Encode(list{value}, buf) //nolint:wrapcheck // pgx names the argument and wraps
}

// wrapListTarget is wrapList for scanning. pgx's own wrapper has made an ArraySetter of a pointer to a slice before.
func wrapListTarget(target any) (plan pgtype.WrappedScanPlanNextSetter, next any, ok bool) {
	setter, ok := target.(pgtype.ArraySetter)
	if _, wrapped := target.(listTarget); !ok || wrapped {
		return nil, nil, false
	}
	return &scanList{}, listTarget{setter}, true
}

type scanList struct{ next pgtype.ScanPlan }

func (p *scanList) SetNext(next pgtype.ScanPlan) { p.next = next }

func (p *scanList) Scan(src []byte, target any) error {
	//nolint:forcetypeassert,wrapcheck // the plan was made for this type; pgx names the column and wraps
	return p.next.Scan(src, listTarget{target.(pgtype.ArraySetter)})
}

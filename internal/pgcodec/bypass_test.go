package pgcodec_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"

	"github.com/rdsfx-go/rdsfx/internal/pgcodec"
)

func TestOriginOf_RecognizesOnlyRegisteredTypesByAddress(t *testing.T) {
	t.Parallel()
	stock, ours := pgtype.NewMap(), pgtype.NewMap()
	pgcodec.Register(ours)
	assert.Equal(t, pgcodec.Stock, pgcodec.OriginOf(stock, pgtype.Int8OID))
	assert.Equal(t, pgcodec.Stock, pgcodec.OriginOf(stock, pgtype.UUIDOID))
	assert.Equal(t, pgcodec.Stock, pgcodec.OriginOf(ours, pgtype.Int8OID))
	assert.Equal(t, pgcodec.Fast, pgcodec.OriginOf(ours, pgtype.UUIDOID))
	assert.Equal(t, pgcodec.Fast, pgcodec.OriginOf(ours, pgtype.JSONBArrayOID))
	assert.Equal(t, pgcodec.Unknown, pgcodec.OriginOf(ours, 99999))
	assert.Equal(t, pgcodec.Fast, pgcodec.OriginOf(ours.Copy(), pgtype.UUIDOID), "a copy of the map")

	for name, typ := range map[string]*pgtype.Type{
		"copy of pgx's type": {Name: "int8", OID: pgtype.Int8OID, Codec: pgtype.Int8Codec{}},
		"other settings":     {Name: "timestamptz", OID: pgtype.TimestamptzOID, Codec: &pgtype.TimestamptzCodec{ScanLocation: time.UTC}},
		"other functions": {Name: "json", OID: pgtype.JSONOID, Codec: &pgtype.JSONCodec{
			Marshal: json.Marshal, Unmarshal: func([]byte, any) error { return nil },
		}},
		"embedded codec": {Name: "bool", OID: pgtype.BoolOID, Codec: struct{ pgtype.BoolCodec }{}},
	} {
		ours.RegisterType(typ)
		assert.Equal(t, pgcodec.Foreign, pgcodec.OriginOf(ours, typ.OID), name)
	}
	ours.RegisterType(&pgtype.Type{Name: "color", OID: 99999, Codec: &pgtype.EnumCodec{}})
	assert.Equal(t, pgcodec.Enum, pgcodec.OriginOf(ours, 99999))
	ours.RegisterType(&pgtype.Type{Name: "color", OID: 99999, Codec: struct{ *pgtype.EnumCodec }{&pgtype.EnumCodec{}}})
	assert.Equal(t, pgcodec.Foreign, pgcodec.OriginOf(ours, 99999), "embedded enum codec")
}

func TestHasStockWrappers_NoticesEveryChange(t *testing.T) {
	t.Parallel()
	newMap := func() *pgtype.Map {
		m := pgtype.NewMap()
		pgcodec.Register(m)
		return m
	}
	for _, m := range []*pgtype.Map{pgtype.NewMap(), newMap()} {
		assert.True(t, pgcodec.HasStockScanWrappers(m))
		assert.True(t, pgcodec.HasStockEncodeWrappers(m))
	}
	scan := func(any) (pgtype.WrappedScanPlanNextSetter, any, bool) { return nil, nil, false }
	encode := func(any) (pgtype.WrappedEncodePlanNextSetter, any, bool) { return nil, nil, false }
	for name, change := range map[string]func(m *pgtype.Map){
		"in front": func(m *pgtype.Map) {
			m.TryWrapScanPlanFuncs = slices.Insert(m.TryWrapScanPlanFuncs, 0, scan)
			m.TryWrapEncodePlanFuncs = slices.Insert(m.TryWrapEncodePlanFuncs, 0, encode)
		},
		"at the end": func(m *pgtype.Map) {
			m.TryWrapScanPlanFuncs = append(m.TryWrapScanPlanFuncs, scan)
			m.TryWrapEncodePlanFuncs = append(m.TryWrapEncodePlanFuncs, encode)
		},
		"in place": func(m *pgtype.Map) { m.TryWrapScanPlanFuncs[3], m.TryWrapEncodePlanFuncs[3] = scan, encode },
		"removed": func(m *pgtype.Map) {
			m.TryWrapScanPlanFuncs, m.TryWrapEncodePlanFuncs = m.TryWrapScanPlanFuncs[2:], m.TryWrapEncodePlanFuncs[2:]
		},
		"emptied": func(m *pgtype.Map) { m.TryWrapScanPlanFuncs, m.TryWrapEncodePlanFuncs = nil, nil },
	} {
		m := newMap()
		change(m)
		assert.False(t, pgcodec.HasStockScanWrappers(m), name)
		assert.False(t, pgcodec.HasStockEncodeWrappers(m), name)
	}
}

type plainID [16]byte

func (plainID) String() string { return "" }

func TestConvertsItself_FindsMethodsOfTypeAndPointer(t *testing.T) {
	t.Parallel()
	for _, typ := range []reflect.Type{
		reflect.TypeFor[uuid.UUID](), reflect.TypeFor[json.RawMessage](), reflect.TypeFor[time.Time](), reflect.TypeFor[pgtype.Int8](),
	} {
		assert.True(t, pgcodec.ConvertsItself(typ), typ)
	}
	for _, typ := range []reflect.Type{
		reflect.TypeFor[int](), reflect.TypeFor[plainID](), reflect.TypeFor[[]byte](), reflect.TypeFor[*string](),
	} {
		assert.False(t, pgcodec.ConvertsItself(typ), typ)
	}
}

func TestIsStockFor_NoticesDefaultsOfTheApplication(t *testing.T) {
	t.Parallel()
	m := pgtype.NewMap()
	assert.True(t, pgcodec.IsStockFor(m, ""))
	assert.True(t, pgcodec.IsStockFor(m, plainID{}))
	m.RegisterDefaultPgType(plainID{}, "uuid")
	m.RegisterDefaultPgType("", "varchar")
	assert.False(t, pgcodec.IsStockFor(m, ""))
	assert.False(t, pgcodec.IsStockFor(m, plainID{}))
}

package rowplan_test

import (
	"database/sql/driver"
	"encoding/binary"
	"encoding/json"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/internal/rowplan"
)

// valuer encodes itself.
type valuer string

func (v valuer) Value() (driver.Value, error) { return strings.ToLower(string(v)), nil }

// writer encodes fields of one type in all ways.
type writer struct {
	typ reflect.Type
	// write returns whether there is an encoder, and the bytes that pgx sends.
	write func(t *testing.T, m *pgtype.Map, oid uint32, data []byte) (direct bool, sent []byte)
}

func writerOf[V any]() writer {
	typ := reflect.TypeFor[box[V]]()
	write := func(t *testing.T, m *pgtype.Map, oid uint32, data []byte) (bool, []byte) {
		t.Helper()
		var row box[V]
		fill(reflect.ValueOf(&row.V).Elem(), data)
		e := rowplan.NewEncoder(m, typ, []rowplan.Column{{Path: []int{1}, OID: oid, Enum: oid == unregistered}})
		got, bad, err := e.Append([]byte("before"), unsafe.Pointer(&row), func(int) any { return row.V })
		if e.Text() {
			return false, sameText(t, m, oid, row.V, string(got), err)
		}
		want, wantErr := rowplan.AppendValue(m, oid, row.V)
		if (err == nil) != (wantErr == nil) || err != nil && bad != 0 {
			t.Fatalf("%#v for %d: the encoder returns %v for column %d, pgx %v", row.V, oid, err, bad, wantErr)
		}
		if err == nil && string(got) != "before\x00\x01"+string(want) {
			t.Fatalf("%#v for %d: the encoder writes %q, pgx %q", row.V, oid, got, want)
		}
		return e.Direct() > 0, want
	}
	return writer{reflect.TypeFor[V](), write}
}

// sameText requires that a row of one value in the text format is what pgx sends as text.
func sameText(t *testing.T, m *pgtype.Map, oid uint32, value any, got string, err error) []byte {
	t.Helper()
	want, wantErr := m.Encode(oid, pgtype.TextFormatCode, value, []byte{})
	if text, ok := value.(string); ok {
		want, wantErr = []byte(text), nil
	}
	if sent, sentErr := m.Encode(oid, pgtype.BinaryFormatCode, value, nil); oid == pgtype.Float4OID && sentErr == nil && sent != nil {
		rounded := math.Float32frombits(binary.BigEndian.Uint32(sent)) // an INSERT sends the binary form
		want = strconv.AppendFloat(nil, float64(rounded), 'f', -1, 32)
	}
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("%#v for %d as text: the encoder returns %v, pgx %v", value, oid, err, wantErr)
	}
	line := "before\\N\n"
	if want != nil {
		line = "before" + strings.NewReplacer("\\", `\\`, "\n", `\n`, "\r", `\r`, "\t", `\t`).Replace(string(want)) + "\n"
	}
	if err == nil && got != line {
		t.Fatalf("%#v for %d: the encoder writes %q, pgx %q", value, oid, got, line)
	}
	return want
}

// fill sets a value from bytes.
func fill(v reflect.Value, data []byte) {
	var padded [9]byte
	copy(padded[:], data)
	n := binary.BigEndian.Uint64(padded[1:])
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(n%2 == 1)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(n))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(n)
	case reflect.Float32, reflect.Float64:
		v.SetFloat(math.Float64frombits(n))
	case reflect.String:
		v.SetString(string(data))
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 && padded[0] > 0 {
			v.SetBytes(append([]byte{}, data...))
		} else if padded[0] > 0 {
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			fill(v.Index(0), data[1:])
		}
	case reflect.Array:
		reflect.Copy(v, reflect.ValueOf(append(padded[:], padded[:]...)[:v.Len()]).Convert(reflect.SliceOf(v.Type().Elem())))
	case reflect.Pointer:
		if padded[0] > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(v.Elem(), data[1:])
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(int64(n>>24), int64(n%1e9)).In(time.FixedZone("x", int(padded[0])*60))))
			return
		}
		for _, f := range v.Fields() {
			if f.CanSet() && f.Kind() != reflect.Pointer {
				fill(f, data)
			}
		}
	case reflect.Map, reflect.Interface:
		if len(data) > 1 {
			var value any
			if json.Unmarshal(data, &value) == nil && reflect.TypeOf(value) != nil && reflect.TypeOf(value).AssignableTo(v.Type()) {
				v.Set(reflect.ValueOf(value))
			}
		}
	default:
	}
}

var writers = []writer{
	writerOf[bool](), writerOf[int](), writerOf[int8](), writerOf[int16](), writerOf[int32](), writerOf[int64](), writerOf[uint](),
	writerOf[uint8](), writerOf[uint16](), writerOf[uint32](), writerOf[uint64](), writerOf[float32](), writerOf[float64](),
	writerOf[string](), writerOf[[]byte](), writerOf[[16]byte](), writerOf[uuid.UUID](), writerOf[time.Time](), writerOf[json.RawMessage](),
	writerOf[*bool](), writerOf[*int](), writerOf[*int16](), writerOf[*int64](), writerOf[*uint64](), writerOf[*float32](),
	writerOf[*float64](), writerOf[*string](), writerOf[*[]byte](), writerOf[*[16]byte](), writerOf[*uuid.UUID](), writerOf[*time.Time](),
	writerOf[*json.RawMessage](), writerOf[**string](), writerOf[**time.Time](),
	writerOf[name](), writerOf[level](), writerOf[flag](), writerOf[blob](), writerOf[id16](), writerOf[ratio](), writerOf[counter](),
	writerOf[*name](), writerOf[*level](), writerOf[*blob](), writerOf[*id16](), writerOf[*counter](),
	writerOf[color](), writerOf[*color](), writerOf[label](), writerOf[*label](),
	writerOf[opaque](), writerOf[valuer](), writerOf[*valuer](), writerOf[document](),
	writerOf[map[string]any](), writerOf[any](), writerOf[uuid.NullUUID](), writerOf[pgtype.Text](), writerOf[pgtype.Int8](),
	writerOf[pgtype.Timestamptz](), writerOf[pgtype.UUID](), writerOf[[]string](), writerOf[[]int32](), writerOf[[]uuid.UUID](),
	writerOf[time.Duration](),
}

func dataSamples() [][]byte {
	return [][]byte{
		nil,
		{0},
		{1},
		[]byte("\x01\x00\x00\x00\x00\x00\x00\x00\x01"), []byte("\x01\xff\xff\xff\xff\xff\xff\xff\xff"),
		[]byte("\x01\x7f\xff\xff\xff\xff\xff\xff\xff"), []byte("\x01\x00\x00\x00\x00\x7f\xff\xff\xff"), []byte("12"), []byte("2024-02-29"),
		[]byte(`{"a": 1}`), []byte("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"), []byte(strings.Repeat("x", 300)),
		[]byte("\x01\x7f\xf8\x00\x00\x00\x00\x00\x01"),
		[]byte("{1,2}"), []byte("\x02\x01\x00\x00\x00\x00\x00\x00\x00\x05"),
	}
}

// TestEncoder_WritesWhatPgxWrites tries every Go type with every column type.
func TestEncoder_WritesWhatPgxWrites(t *testing.T) {
	t.Parallel()
	for _, makeMap := range append(slices.Clone(maps), foreignEncoders, foreignEncodeWrappers) {
		m := makeMap()
		for _, w := range writers {
			for _, oid := range oids {
				for _, data := range dataSamples() {
					w.write(t, m, oid, data)
				}
			}
		}
	}
}

// foreignEncodeWrappers returns the map of an application that has registered a wrapper function for another type.
func foreignEncodeWrappers() *pgtype.Map {
	m := ours()
	m.TryWrapEncodePlanFuncs = append([]pgtype.TryWrapEncodePlanFunc{
		func(any) (pgtype.WrappedEncodePlanNextSetter, any, bool) { return nil, nil, false },
	}, m.TryWrapEncodePlanFuncs...)
	return m
}

// foreignEncoders returns the map of an application that has registered codecs for writing.
func foreignEncoders() *pgtype.Map {
	m := ours()
	m.RegisterType(&pgtype.Type{Name: "text", OID: pgtype.TextOID, Codec: quiet{}})
	m.RegisterType(&pgtype.Type{Name: "color", OID: unregistered, Codec: &pgtype.EnumCodec{}})
	return m
}

// quiet is an application's codec for text that writes lower case.
type quiet struct{ pgtype.TextCodec }

func (quiet) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if _, ok := value.(string); ok {
		return writeQuiet{}
	}
	return pgtype.TextCodec{}.PlanEncode(m, oid, format, value)
}

type writeQuiet struct{}

func (writeQuiet) Encode(value any, buf []byte) ([]byte, error) {
	return append(buf, strings.ToLower(value.(string))...), nil
}

func TestEncoder_EncodesCommonTypesWithoutPgx(t *testing.T) {
	t.Parallel()
	some := []byte("\x01\x00\x00\x00\x00\x00\x00\x00\x01")
	for _, one := range []struct {
		w   writer
		oid uint32
	}{
		{writerOf[bool](), pgtype.BoolOID},
		{writerOf[int](), pgtype.Int2OID},
		{writerOf[uint16](), pgtype.Int4OID},
		{writerOf[*int64](), pgtype.Int8OID},
		{writerOf[level](), pgtype.Int2OID},
		{writerOf[float32](), pgtype.Float4OID},
		{writerOf[*ratio](), pgtype.Float8OID},
		{writerOf[string](), pgtype.TextOID},
		{writerOf[*name](), pgtype.VarcharOID},
		{writerOf[color](), unregistered},
		{writerOf[[]byte](), pgtype.ByteaOID},
		{writerOf[uuid.UUID](), pgtype.UUIDOID},
		{writerOf[*uuid.UUID](), pgtype.UUIDOID},
		{writerOf[id16](), pgtype.UUIDOID},
		{writerOf[time.Time](), pgtype.TimestamptzOID},
		{writerOf[*time.Time](), pgtype.TimestamptzOID},
		{writerOf[json.RawMessage](), pgtype.JSONBOID},
	} {
		direct, _ := one.w.write(t, ours(), one.oid, some)
		assert.True(t, direct, "%v for %d", one.w.typ, one.oid)
	}
	direct, sent := writerOf[string]().write(t, foreignEncoders(), pgtype.TextOID, []byte("LOUD"))
	assert.False(t, direct)
	assert.Equal(t, "\x00\x00\x00\x04loud", string(sent))
	_, sent = writerOf[string]().write(t, ours(), pgtype.Int4OID, []byte("12"))
	assert.Equal(t, "12", string(sent), "the server parses text for another type")
	direct, _ = writerOf[string]().write(t, foreignEncodeWrappers(), pgtype.TextOID, some)
	assert.False(t, direct, "a foreign wrapper")
	for _, w := range []writer{writerOf[valuer](), writerOf[label](), writerOf[opaque](), writerOf[*label]()} {
		direct, _ = w.write(t, ours(), pgtype.TextOID, some)
		assert.False(t, direct, w.typ)
	}
}

// level64 is a type for whose slices pgx has no own plan.
type level64 int64

func TestEncodeText_KeepsDimensionsAfterOtherLists(t *testing.T) {
	t.Parallel()
	types := pgtype.NewMap()
	_, err := rowplan.EncodeText(types, pgtype.Int8ArrayOID, []level64{1})
	require.NoError(t, err)
	text, err := rowplan.EncodeText(types, pgtype.Int8ArrayOID, [][]int64{{1, 2}, {3, 4}})
	require.NoError(t, err)
	assert.Equal(t, "{{1,2},{3,4}}", string(text))
	_, err = rowplan.EncodeText(types, pgtype.Int8ArrayOID, []bool{true})
	require.Error(t, err)
}

// FuzzEncoder compares the encoder with pgx.
func FuzzEncoder(f *testing.F) {
	for i, data := range dataSamples() {
		f.Add(uint8(i), uint8(i), uint8(i), data)
	}
	all := append(slices.Clone(maps), foreignEncoders, foreignEncodeWrappers)
	f.Fuzz(func(t *testing.T, mapOf, writerOf, oid uint8, data []byte) {
		writers[int(writerOf)%len(writers)].write(t, all[int(mapOf)%len(all)](), oids[int(oid)%len(oids)], data)
	})
}

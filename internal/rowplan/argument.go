package rowplan

import (
	"encoding/binary"
	"encoding/json"
	"reflect"
	"time"
	"unsafe"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/rdsfx-go/rdsfx/internal/pgcodec"
)

// This file lets a statement's arguments be the addresses of a struct's fields: an address goes into an interface without an
// allocation, where a value is copied to the heap. pgx takes a pointer for what it points to, so that the statement is the same; only
// where a connection's map would not do with the address what it does with the value, the value is the argument.

// Register makes a connection use the codecs of package pgcodec, and encode what a pointer to a plain type points to without an
// interface value in between. It costs no round trip.
func Register(m *pgtype.Map) {
	pgcodec.Register(m)
	m.TryWrapEncodePlanFuncs = append([]pgtype.TryWrapEncodePlanFunc{wrapPointer}, m.TryWrapEncodePlanFuncs...)
}

// wrapPointer is one of pgx's wrapper functions. It does what TryWrapDerefPointerEncodePlan does, for types that are plain: of a
// kind for which there are encoders, and without methods by which a codec could know them.
func wrapPointer(value any) (plan pgtype.WrappedEncodePlanNextSetter, next any, ok bool) {
	typ := reflect.TypeOf(value)
	if typ == nil || typ.Kind() != reflect.Pointer || typ.NumMethod() > 0 || !isPlain(typ.Elem()) {
		return nil, nil, false
	}
	return &pointerPlan{typ: typ.Elem()}, reflect.Zero(typ.Elem()).Interface(), true
}

// isPlain reports whether a type is one without a name, or is made of one, that encoders know.
func isPlain(typ reflect.Type) bool {
	return bare[typ.Kind()] == typ || typ == reflect.TypeFor[[]byte]() || typ == reflect.TypeFor[[uuidSize]byte]() || underlying(typ) != nil
}

// pointerPlan encodes what a pointer points to. Whether an encoder does that, or pgx's own plan for the type, is known once pgx has
// told that plan.
type pointerPlan struct {
	typ    reflect.Type
	next   pgtype.EncodePlan
	encode encoder // nil: next does it
}

func (p *pointerPlan) SetNext(next pgtype.EncodePlan) {
	p.next, p.encode = next, encoderOf(p.typ, next)
}

func (p *pointerPlan) Encode(value any, buf []byte) ([]byte, error) {
	pointer := reflect.ValueOf(value)
	if pointer.IsNil() {
		return nil, nil
	}
	if p.encode != nil {
		if longer, ok := p.encode(buf, pointer.UnsafePointer()); ok {
			return withoutLength(longer, len(buf)), nil
		}
	}
	return p.next.Encode(pointer.Elem().Interface(), buf) //nolint:wrapcheck // pgx names the argument and wraps
}

// withoutLength takes away the length that an encoder has written at this place; it is nil for NULL, as pgx wants it.
func withoutLength(buf []byte, at int) []byte {
	value := buf[at+lengthSize:]
	if binary.BigEndian.Uint32(buf[at:]) == null {
		return nil
	}
	return buf[:at+copy(buf[at:], value)]
}

const lengthSize = 4

// encodable are types of columns that have encoders.
var encodable = []uint32{
	pgtype.BoolOID, pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.Float4OID, pgtype.Float8OID, pgtype.TextOID, pgtype.ByteaOID,
	pgtype.UUIDOID,
}

// encoderOf returns the encoder that does with values of a type what a plan of pgx's does, nil when there is none. Which type of
// column the plan is for needn't be known: equal plans write equal bytes.
func encoderOf(typ reflect.Type, plan pgtype.EncodePlan) encoder {
	r := reference()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.maps {
		text := m.PlanEncode(pgtype.TextOID, pgtype.TextFormatCode, reflect.Zero(typ).Interface())
		if typ.Kind() == reflect.String && reflect.DeepEqual(text, plan) {
			return fromString
		}
		for _, oid := range encodable {
			if expected, encode := chooseEncode(m, typ, oid); expected != nil && reflect.DeepEqual(expected, plan) {
				return encode
			}
		}
	}
	return nil
}

// Arguments returns the plan that a connection has for rows of the model, so that fields can be arguments of the statement that is
// about to run on it; nil when no row has been read on the connection yet, or when its types have changed since.
func (m *Model) Arguments(conn *pgx.Conn) *Plan {
	plans, _ := conn.PgConn().CustomData()[cacheKey].(cache)
	p := plans[m]
	if p == nil || !p.holds(conn.TypeMap()) {
		return nil
	}
	if p.arguments == nil {
		p.ask(conn.TypeMap(), conn.Config().DefaultQueryExecMode)
	}
	return p
}

// ask works out which fields may be arguments by their address.
func (p *Plan) ask(types *pgtype.Map, mode pgx.QueryExecMode) {
	p.arguments = make([]argument, len(p.columns))
	switch mode {
	case pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec:
	default:
		return // an argument's type tells its column's there
	}
	for i := range p.columns {
		p.arguments[i] = argumentOf(types, p.columns[i].typ, p.columns[i].oid)
	}
}

// Arguments makes arguments of the fields of a row, a struct of the plan's model that can be addressed: of each of these columns,
// which are positions in the model. A negative one is none of the model's and is left as it is; boxed is asked for the argument
// where a field's address won't do, and for all of them without a plan.
func (p *Plan) Arguments(row reflect.Value, columns []int, args []any, boxed func(column int) any) {
	var start unsafe.Pointer
	if p != nil && row.Type() == p.model.typ {
		start = row.Addr().UnsafePointer()
	}
	for i, column := range columns {
		switch {
		case column < 0:
		case start != nil && p.arguments[column] != nil:
			args[i] = p.arguments[column](unsafe.Add(start, p.columns[column].offset))
		default:
			args[i] = boxed(column)
		}
	}
}

// argument makes an argument of the field at this place.
type argument func(place unsafe.Pointer) any

// argumentOf returns how a field of this type is the argument for a column, nil when its value has to be. The address must be
// encoded by a plan of ours, which pgx's map only has where it does the same with the value.
func argumentOf(types *pgtype.Map, typ reflect.Type, oid uint32) argument {
	if typ.Kind() == reflect.Pointer {
		return pointerValue(typ)
	}
	pointer, of := address(typ)
	if pointer == nil {
		return nil
	}
	format := types.FormatCodeForOID(oid)
	if typ == reflect.TypeFor[string]() {
		format = pgtype.TextFormatCode // as pgx sends strings
	}
	// The parameter may be of another type than the column that was read: of a domain, whose OID the map doesn't know, so that it goes
	// by the Go type.
	if typeName(types, typ) != typeName(types, pointer) {
		return nil
	}
	plan := types.PlanEncode(oid, format, reflect.Zero(pointer).Interface())
	if p, ok := plan.(*pointerPlan); ok && p.encode != nil || pgcodec.TakesPointer(plan) {
		return of
	}
	return nil
}

// typeName returns the name of the type that a map takes values of a Go type for where it knows no other, "" for none.
func typeName(types *pgtype.Map, typ reflect.Type) string {
	if found, ok := types.TypeForValue(reflect.Zero(typ).Interface()); ok {
		return found.Name
	}
	return ""
}

// pointerValue returns how a field that is a pointer is an argument: its value is no more than an address itself.
func pointerValue(typ reflect.Type) argument {
	if known, ok := pointerValues[typ]; ok {
		return known
	}
	return func(place unsafe.Pointer) any { return reflect.NewAt(typ, place).Elem().Interface() }
}

func valueOf[T any](place unsafe.Pointer) any { return *(**T)(place) }

var pointerValues = map[reflect.Type]argument{
	reflect.TypeFor[*bool](): valueOf[bool], reflect.TypeFor[*string](): valueOf[string], reflect.TypeFor[*int](): valueOf[int],
	reflect.TypeFor[*int32](): valueOf[int32], reflect.TypeFor[*int64](): valueOf[int64], reflect.TypeFor[*float64](): valueOf[float64],
	reflect.TypeFor[*time.Time](): valueOf[time.Time], reflect.TypeFor[*uuid.UUID](): valueOf[uuid.UUID],
}

// address returns the type of the argument for fields of a type, and how it is made; nil for a type that has none.
func address(typ reflect.Type) (pointer reflect.Type, of argument) {
	if known, ok := addresses[typ]; ok {
		return known.pointer, known.of
	}
	pointer = reflect.PointerTo(typ)
	if pointer.NumMethod() > 0 || !isPlain(typ) || typ.Kind() == reflect.Slice {
		return nil, nil
	}
	return pointer, func(place unsafe.Pointer) any { return reflect.NewAt(typ, place).Interface() }
}

type pointerArgument struct {
	pointer reflect.Type
	of      argument
}

func addressed[T any]() pointerArgument {
	return pointerArgument{reflect.TypeFor[*T](), func(place unsafe.Pointer) any { return (*T)(place) }}
}

var addresses = map[reflect.Type]pointerArgument{
	reflect.TypeFor[bool](): addressed[bool](), reflect.TypeFor[string](): addressed[string](),
	reflect.TypeFor[int](): addressed[int](), reflect.TypeFor[int8](): addressed[int8](), reflect.TypeFor[int16](): addressed[int16](),
	reflect.TypeFor[int32](): addressed[int32](), reflect.TypeFor[int64](): addressed[int64](),
	reflect.TypeFor[uint](): addressed[uint](), reflect.TypeFor[uint8](): addressed[uint8](), reflect.TypeFor[uint16](): addressed[uint16](),
	reflect.TypeFor[uint32](): addressed[uint32](), reflect.TypeFor[uint64](): addressed[uint64](),
	reflect.TypeFor[float32](): addressed[float32](), reflect.TypeFor[float64](): addressed[float64](),
	reflect.TypeFor[time.Time](): addressed[time.Time](), reflect.TypeFor[uuid.UUID](): addressed[uuid.UUID](),
	reflect.TypeFor[[]byte]():          {reflect.TypeFor[*[]byte](), bytesOrNull},
	reflect.TypeFor[json.RawMessage](): {reflect.TypeFor[*pgcodec.Raw](), documentOrNull},
}

// A slice that is nil is NULL, and what a pointer to one is depends on the codec.

func bytesOrNull(place unsafe.Pointer) any {
	if value := (*[]byte)(place); *value != nil {
		return value
	}
	return []byte(nil)
}

func documentOrNull(place unsafe.Pointer) any {
	if value := (*pgcodec.Raw)(place); *value != nil { // a json.RawMessage is the same in memory
		return value
	}
	return json.RawMessage(nil)
}

package rowplan

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math"
	"reflect"
	"time"
	"unsafe"

	"github.com/jackc/pgx/v5/pgtype"
)

// decoder reads a value into the zero field at this address and reports whether it did. It returns false, without writing
// anything, for values that it leaves to pgx: invalid and rare ones. src is nil for NULL.
type decoder func(src []byte, field unsafe.Pointer, a *arena) bool

type integer interface {
	~int | ~int8 | ~int16 | ~int32 | ~int64 | ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64
}

// setInteger stores an integer if the field can hold it.
func setInteger[T integer](value int64, field unsafe.Pointer) bool {
	narrow := T(value)
	if int64(narrow) != value || (narrow < 0) != (value < 0) {
		return false
	}
	*(*T)(field) = narrow
	return true
}

func decodeInt2[T integer](src []byte, field unsafe.Pointer, _ *arena) bool {
	return len(src) == 2 && setInteger[T](int64(int16(binary.BigEndian.Uint16(src))), field) //nolint:gosec // two's complement on the wire
}

func decodeInt4[T integer](src []byte, field unsafe.Pointer, _ *arena) bool {
	return len(src) == 4 && setInteger[T](int64(int32(binary.BigEndian.Uint32(src))), field) //nolint:gosec // two's complement on the wire
}

func decodeInt8[T integer](src []byte, field unsafe.Pointer, _ *arena) bool {
	return len(src) == 8 && setInteger[T](int64(binary.BigEndian.Uint64(src)), field) //nolint:gosec // two's complement on the wire
}

func decodeBool(src []byte, field unsafe.Pointer, _ *arena) bool {
	if len(src) != 1 {
		return false
	}
	*(*bool)(field) = src[0] == 1
	return true
}

func decodeFloat4(src []byte, field unsafe.Pointer, _ *arena) bool {
	if len(src) != 4 {
		return false
	}
	*(*float32)(field) = math.Float32frombits(binary.BigEndian.Uint32(src))
	return true
}

func decodeFloat8(src []byte, field unsafe.Pointer, _ *arena) bool {
	if len(src) != 8 {
		return false
	}
	*(*float64)(field) = math.Float64frombits(binary.BigEndian.Uint64(src))
	return true
}

func decodeString(src []byte, field unsafe.Pointer, a *arena) bool {
	if src == nil {
		return false
	}
	*(*string)(field) = a.string(src)
	return true
}

func decodeBytes(src []byte, field unsafe.Pointer, a *arena) bool {
	if src != nil {
		*(*[]byte)(field) = a.bytes(src)
	}
	return true
}

func decodeText(src []byte, field unsafe.Pointer, a *arena) bool {
	if src != nil {
		*(*pgtype.Text)(field) = pgtype.Text{String: a.string(src), Valid: true}
	}
	return true
}

// decodeJSON copies a document without the surrounding white space that type json keeps.
func decodeJSON(src []byte, field unsafe.Pointer, a *arena) bool {
	if src == nil {
		return true
	}
	document := src
	if n := len(src); n > 0 && (src[0] <= ' ' || src[n-1] <= ' ') {
		document = bytes.Trim(src, " \t\r\n")
	}
	if len(document) == 0 {
		return false
	}
	*(*json.RawMessage)(field) = a.bytes(document)
	return true
}

// decodeJSONPointer reads SQL's NULL and JSON's null as a nil pointer.
func decodeJSONPointer(src []byte, field unsafe.Pointer, a *arena) bool {
	if src == nil || string(src) == "null" {
		return true
	}
	raw := new(json.RawMessage)
	if !decodeJSON(src, unsafe.Pointer(raw), a) { //nolint:gosec // decodeJSON writes this type
		return false
	}
	*(**json.RawMessage)(field) = raw
	return true
}

const uuidSize = 16

func decodeUUID(src []byte, field unsafe.Pointer, _ *arena) bool {
	if len(src) != uuidSize {
		return false
	}
	*(*[uuidSize]byte)(field) = [uuidSize]byte(src)
	return true
}

func decodeUUIDText(src []byte, field unsafe.Pointer, a *arena) bool {
	if len(src) != uuidSize {
		return false
	}
	var text [36]byte
	hex.Encode(text[0:8], src[0:4])
	hex.Encode(text[9:13], src[4:6])
	hex.Encode(text[14:18], src[6:8])
	hex.Encode(text[19:23], src[8:10])
	hex.Encode(text[24:36], src[10:16])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	*(*string)(field) = a.string(text[:])
	return true
}

// Timestamps count microseconds from 2000-01-01, and dates count days. Numbers outside these bounds are infinities, which a
// time.Time can't hold (PostgreSQL's src/include/datatype/timestamp.h and src/include/utils/date.h).
const (
	microsPerSecond = 1_000_000
	nanosPerMicro   = 1_000
	y2kSeconds      = 946_684_800
	firstMicros     = -211_813_488_000_000_000  // 4714-11-24 BC
	endMicros       = 9_223_371_331_200_000_000 // 294277-01-01
	firstDay        = -2_451_545                // 4714-11-24 BC
	endDay          = 2_145_031_949             // 5874898-01-01
)

// micros returns the microseconds of a timestamp.
func micros(src []byte) (int64, bool) {
	if len(src) != 8 {
		return 0, false
	}
	n := int64(binary.BigEndian.Uint64(src)) //nolint:gosec // two's complement on the wire
	return n, n >= firstMicros && n < endMicros
}

func decodeTimestamptz(src []byte, field unsafe.Pointer, _ *arena) bool {
	n, ok := micros(src)
	if ok {
		*(*time.Time)(field) = time.Unix(y2kSeconds+n/microsPerSecond, n%microsPerSecond*nanosPerMicro)
	}
	return ok
}

func decodeTimestamp(src []byte, field unsafe.Pointer, _ *arena) bool {
	n, ok := micros(src)
	if ok {
		*(*time.Time)(field) = time.Unix(y2kSeconds+n/microsPerSecond, n%microsPerSecond*nanosPerMicro).UTC()
	}
	return ok
}

func decodeDate(src []byte, field unsafe.Pointer, _ *arena) bool {
	if len(src) != 4 {
		return false
	}
	days := int32(binary.BigEndian.Uint32(src)) //nolint:gosec // two's complement on the wire
	if days < firstDay || days >= endDay {
		return false
	}
	*(*time.Time)(field) = time.Date(2000, 1, 1+int(days), 0, 0, 0, 0, time.UTC)
	return true
}

// maxValues is the largest number of pointers' targets that are allocated together.
const maxValues = 16

// pointer returns the decoder for a pointer to the type that decode writes. NULL stays a nil pointer. T is that type or one of the
// same memory layout. The target in the first row of a result is allocated alone, later ones are allocated several at once.
func pointer[T any](decode decoder) decoder {
	var (
		free   []T
		size   int
		result int
	)
	return func(src []byte, field unsafe.Pointer, a *arena) bool {
		if src == nil {
			return true
		}
		if a.result != result {
			free, size, result = nil, 0, a.result
		}
		if len(free) == 0 {
			size = min(max(1, 2*size), maxValues)
			free = make([]T, size)
		}
		value := &free[0]
		if !decode(src, unsafe.Pointer(value), a) { //nolint:gosec // decode writes a T
			return false
		}
		free = free[1:]
		*(**T)(field) = value
		return true
	}
}

// valid returns the decoder for a type of package sql: decode writes the first field, and field Valid is set unless the value is
// NULL.
func valid[N any](decode decoder) decoder {
	f, _ := reflect.TypeFor[N]().FieldByName("Valid")
	return func(src []byte, field unsafe.Pointer, a *arena) bool {
		if src == nil {
			return true
		}
		if !decode(src, field, a) {
			return false
		}
		*(*bool)(unsafe.Add(field, f.Offset)) = true
		return true
	}
}

package pgcodec

import (
	"database/sql/driver"
	"encoding/hex"
	"reflect"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
)

// uuidCodec writes and reads the sixteen bytes of a UUID directly. pgx formats a google/uuid argument as text, parses the text
// into an any and encodes that.
//
// Other types that implement driver.Valuer or sql.Scanner may give values a meaning, such as NULL for the zero value. Their
// methods are called.
type uuidCodec struct{ pgtype.UUIDCodec }

const (
	uuidBytes = 16
	uuidText  = 36
)

func (c uuidCodec) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	switch value.(type) {
	case uuid.UUID:
		return encodeUUID{text: format == pgtype.TextFormatCode}
	case *uuid.UUID:
		return encodeUUIDPointer{text: format == pgtype.TextFormatCode}
	case uuid.NullUUID:
		return encodeNullUUID{text: format == pgtype.TextFormatCode}
	case driverValue, pgtype.SkipUnderlyingTypePlanner:
		return c.UUIDCodec.PlanEncode(m, oid, format, value)
	}
	if plan := c.UUIDCodec.PlanEncode(m, oid, format, value); plan != nil || format != pgtype.BinaryFormatCode {
		return plan
	}
	switch value.(type) {
	case [uuidBytes]byte:
		return encodeBytes{}
	case string:
		return encodeUUIDString{}
	}
	if _, ok := value.(driver.Valuer); ok {
		return encodeValuer{m: m, oid: oid}
	}
	if t := reflect.TypeOf(value); isBytes(t) && !ConvertsItself(t) {
		return encodeArray{}
	}
	return nil
}

func (c uuidCodec) PlanScan(m *pgtype.Map, oid uint32, format int16, target any) pgtype.ScanPlan {
	switch target.(type) {
	case *uuid.UUID:
		if format == pgtype.TextFormatCode {
			return scanUUIDFromText{}
		}
		return scanUUID{}
	case *uuid.NullUUID:
		if format == pgtype.BinaryFormatCode {
			return scanNullUUID{}
		}
	case *[uuidBytes]byte:
		if format == pgtype.BinaryFormatCode {
			return scanBytes{}
		}
	case *string:
		if format == pgtype.BinaryFormatCode {
			return scanUUIDString{}
		}
	}
	return c.UUIDCodec.PlanScan(m, oid, format, target)
}

// isBytes reports whether t is an array of 16 bytes.
func isBytes(t reflect.Type) bool {
	return t != nil && t.Kind() == reflect.Array && t.Len() == uuidBytes && t.Elem().Kind() == reflect.Uint8 && t.Elem().PkgPath() == ""
}

// appendUUID appends the bytes, or their text.
func appendUUID(buf []byte, id *uuid.UUID, text bool) []byte {
	if !text {
		return append(buf, id[:]...)
	}
	buf = append(buf, make([]byte, uuidText)...)
	putText(buf[len(buf)-uuidText:], id[:])
	return buf
}

// putText writes the canonical text of a UUID.
func putText(dst, id []byte) {
	hex.Encode(dst[0:8], id[0:4])
	hex.Encode(dst[9:13], id[4:6])
	hex.Encode(dst[14:18], id[6:8])
	hex.Encode(dst[19:23], id[8:10])
	hex.Encode(dst[24:36], id[10:16])
	dst[8], dst[13], dst[18], dst[23] = '-', '-', '-', '-'
}

// parseText parses the canonical text of a UUID, in upper or lower case. PostgreSQL and pgx accept other forms too, which it
// leaves to them.
func parseText[T string | []byte](text T) (id uuid.UUID, ok bool) {
	if len(text) != uuidText || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return uuid.UUID{}, false
	}
	at := 0
	for i := range id {
		switch at {
		case 8, 13, 18, 23:
			at++
		}
		high, low := nibble(text[at]), nibble(text[at+1])
		if high|low > 0xf {
			return uuid.UUID{}, false
		}
		id[i] = high<<4 | low
		at += 2
	}
	return id, true
}

// nibble returns the value of a hexadecimal digit, 0xff for anything else.
func nibble(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 0xff
}

package pgcodec

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
)

// The plans of uuidCodec. Each asserts the type that it was made for.

type encodeUUID struct{ text bool }

func (p encodeUUID) Encode(value any, buf []byte) ([]byte, error) {
	id := value.(uuid.UUID) //nolint:forcetypeassert // the plan was made for this type
	return appendUUID(buf, &id, p.text), nil
}

type encodeUUIDPointer struct{ text bool }

func (p encodeUUIDPointer) Encode(value any, buf []byte) ([]byte, error) {
	id := value.(*uuid.UUID) //nolint:forcetypeassert // the plan was made for this type
	if id == nil {
		return nil, nil
	}
	return appendUUID(buf, id, p.text), nil
}

type encodeNullUUID struct{ text bool }

func (p encodeNullUUID) Encode(value any, buf []byte) ([]byte, error) {
	id := value.(uuid.NullUUID) //nolint:forcetypeassert // the plan was made for this type
	if !id.Valid {
		return nil, nil
	}
	return appendUUID(buf, &id.UUID, p.text), nil
}

type encodeBytes struct{}

func (encodeBytes) Encode(value any, buf []byte) ([]byte, error) {
	id := value.([uuidBytes]byte) //nolint:forcetypeassert // the plan was made for this type
	return append(buf, id[:]...), nil
}

// encodeArray is for named types whose underlying type is [16]byte.
type encodeArray struct{}

func (encodeArray) Encode(value any, buf []byte) ([]byte, error) {
	array := reflect.ValueOf(value)
	for i := range uuidBytes {
		buf = append(buf, byte(array.Index(i).Uint())) //nolint:gosec // it is a byte
	}
	return buf, nil
}

// encodeUUIDString is for strings in the binary format: elements of arrays and rows of COPY. If it fails, pgx sends the text, and
// the server parses it.
type encodeUUIDString struct{}

func (encodeUUIDString) Encode(value any, buf []byte) ([]byte, error) {
	text := value.(string) //nolint:forcetypeassert // the plan was made for this type
	id, ok := parseText(text)
	if !ok {
		return nil, fmt.Errorf("cannot parse UUID %v", text)
	}
	return append(buf, id[:]...), nil
}

// encodeValuer calls a driver.Valuer and encodes the usual result, the canonical text, without pgx's detour.
type encodeValuer struct {
	m   *pgtype.Map
	oid uint32
}

func (p encodeValuer) Encode(value any, buf []byte) ([]byte, error) {
	result, err := value.(driver.Valuer).Value() //nolint:forcetypeassert // the plan was made for this type
	if err != nil || result == nil {
		return nil, err //nolint:wrapcheck // pgx names the argument and wraps
	}
	if text, ok := result.(string); ok {
		if id, ok := parseText(text); ok {
			return append(buf, id[:]...), nil
		}
	}
	return p.m.Encode(p.oid, pgtype.BinaryFormatCode, driverValue{result}, buf) //nolint:wrapcheck // as above
}

// driverValue passes the result of a Valuer to pgx. PlanEncode returns pgx's plan for it.
type driverValue struct{ value driver.Value }

func (v driverValue) Value() (driver.Value, error) { return v.value, nil }

type scanUUID struct{}

func (scanUUID) Scan(src []byte, target any) error {
	id := target.(*uuid.UUID) //nolint:forcetypeassert // the plan was made for this type
	switch len(src) {
	case uuidBytes:
		copy(id[:], src)
		return nil
	default:
		return scanOther(src, id)
	}
}

type scanNullUUID struct{}

func (scanNullUUID) Scan(src []byte, target any) error {
	id := target.(*uuid.NullUUID) //nolint:forcetypeassert // the plan was made for this type
	if len(src) != uuidBytes {
		return scanOther(src, id)
	}
	copy(id.UUID[:], src)
	id.Valid = true
	return nil
}

// scanOther reads NULL, and returns an error for other values.
func scanOther(src []byte, target interface{ Scan(value any) error }) error {
	if src == nil {
		return target.Scan(nil)
	}
	return badLength(src)
}

func badLength(src []byte) error { return fmt.Errorf("invalid length for UUID: %v", len(src)) }

type scanUUIDFromText struct{}

func (scanUUIDFromText) Scan(src []byte, target any) error {
	id := target.(*uuid.UUID) //nolint:forcetypeassert // the plan was made for this type
	if src == nil {
		return id.Scan(nil) //nolint:wrapcheck // pgx names the column and wraps
	}
	parsed, ok := parseText(src)
	if !ok { // a form that no server sends
		var stock pgtype.UUID
		if err := stock.Scan(string(src)); err != nil {
			return err //nolint:wrapcheck // pgx names the column and wraps
		}
		parsed = stock.Bytes
	}
	*id = parsed
	return nil
}

type scanBytes struct{}

func (scanBytes) Scan(src []byte, target any) error {
	switch {
	case src == nil:
		return errors.New("cannot scan NULL into *[16]byte")
	case len(src) != uuidBytes:
		return badLength(src)
	}
	copy(target.(*[uuidBytes]byte)[:], src) //nolint:forcetypeassert // the plan was made for this type
	return nil
}

type scanUUIDString struct{}

func (scanUUIDString) Scan(src []byte, target any) error {
	switch {
	case src == nil:
		return fmt.Errorf("cannot scan NULL into %T", target)
	case len(src) != uuidBytes:
		return badLength(src)
	}
	var text [uuidText]byte
	putText(text[:], src)
	*target.(*string) = string(text[:]) //nolint:forcetypeassert // the plan was made for this type
	return nil
}

package pgcodec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// RegisterExact makes a connection's map read and write some types without changing values, in every exec mode:
//
//   - A number in a document is read into a Go value of type any as a json.Number. pgx reads a float64, which rounds long numbers.
//   - An interval with months, or one that is too long, can't be read into a time.Duration. pgx counts 30 days for a month.
//   - Text of a driver.Valuer for a bit or varbit that isn't made of 0 and 1 is refused. pgx stores a 1 for any other character.
//   - The text of a real, a double precision or a numeric is read as its binary form is read.
//   - A list of names is sent as text, which the server cuts like a single name.
//
// [Register] includes these codecs.
func RegisterExact(m *pgtype.Map) { m.RegisterTypes(exactTypes) }

var exactTypes = withArrays([]*pgtype.Type{ //nolint:gochecknoglobals // never changed
	{Name: "json", OID: pgtype.JSONOID, Codec: &pgtype.JSONCodec{Marshal: json.Marshal, Unmarshal: unmarshal}},
	{Name: "jsonb", OID: pgtype.JSONBOID, Codec: &pgtype.JSONBCodec{Marshal: json.Marshal, Unmarshal: unmarshal}},
	intervalType, bitType, varbitType, realType, doubleType, numericType, namesType,
})

//nolint:gochecknoglobals // as above
var (
	bitType    = &pgtype.Type{Name: "bit", OID: pgtype.BitOID, Codec: bitsCodec{}}
	varbitType = &pgtype.Type{Name: "varbit", OID: pgtype.VarbitOID, Codec: bitsCodec{}}
)

var intervalType = &pgtype.Type{Name: "interval", OID: pgtype.IntervalOID, Codec: intervalCodec{}} //nolint:gochecknoglobals // as above

// unmarshal is json.Unmarshal, except that it keeps numbers as they are written where the Go type leaves their type open.
func unmarshal(data []byte, target any) error {
	if !isOpen(reflect.TypeOf(target)) || !json.Valid(data) {
		return json.Unmarshal(data, target) //nolint:wrapcheck // pgx names the column and wraps
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	return decoder.Decode(target) //nolint:wrapcheck // as above
}

var openTypes sync.Map //nolint:gochecknoglobals // a cache, of reflect.Type to bool

// isOpen reports whether a document read into a type may have values of type any.
func isOpen(typ reflect.Type) bool {
	if known, ok := openTypes.Load(typ); ok {
		return known.(bool) //nolint:forcetypeassert // nothing else is stored
	}
	open := containsInterface(typ, map[reflect.Type]bool{})
	openTypes.Store(typ, open)
	return open
}

func containsInterface(typ reflect.Type, seen map[reflect.Type]bool) bool {
	if seen[typ] {
		return false
	}
	seen[typ] = true
	switch typ.Kind() {
	case reflect.Interface:
		return true
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return containsInterface(typ.Elem(), seen)
	case reflect.Struct:
		for f := range typ.Fields() {
			if containsInterface(f.Type, seen) {
				return true
			}
		}
	default:
	}
	return false
}

// bitsCodec parses only the text of bits. With an error of DecodeValue, pgx sends the text, which the server refuses.
type bitsCodec struct{ pgtype.BitsCodec }

func (c bitsCodec) DecodeValue(m *pgtype.Map, oid uint32, format int16, src []byte) (any, error) {
	if format == pgtype.TextFormatCode && len(bytes.Trim(src, "01")) > 0 {
		return nil, errors.New("the text isn't made of 0 and 1")
	}
	return c.BitsCodec.DecodeValue(m, oid, format, src) //nolint:wrapcheck // pgx names the column and wraps
}

// intervalCodec reads an interval into a time.Duration only if it has a fixed length.
type intervalCodec struct{ pgtype.IntervalCodec }

func (c intervalCodec) PlanScan(m *pgtype.Map, oid uint32, format int16, target any) pgtype.ScanPlan {
	if _, ok := target.(*time.Duration); ok {
		return scanDuration{c.IntervalCodec.PlanScan(m, oid, format, new(pgtype.Interval))}
	}
	return c.IntervalCodec.PlanScan(m, oid, format, target)
}

type scanDuration struct{ interval pgtype.ScanPlan }

func (p scanDuration) Scan(src []byte, target any) error {
	if src == nil {
		return errors.New("cannot scan NULL into *time.Duration")
	}
	var v pgtype.Interval
	if err := p.interval.Scan(src, &v); err != nil {
		return err //nolint:wrapcheck // pgx names the column and wraps
	}
	if v.Months != 0 {
		return errors.New("cannot scan an interval with months, which have no fixed length, into *time.Duration")
	}
	const day = 24 * time.Hour
	days := time.Duration(v.Days) * day // at most 2^31 days, which may be too long
	longest := time.Duration(math.MaxInt64)
	tooManyDays := int64(v.Days) > int64(longest/day) || int64(v.Days) < -int64(longest/day)
	if tooManyDays || v.Microseconds > longest.Microseconds() || v.Microseconds < -longest.Microseconds() {
		return fmt.Errorf("cannot scan an interval of more than %d days into *time.Duration", longest/day)
	}
	rest := time.Duration(v.Microseconds) * time.Microsecond
	if sum := days + rest; (sum > days) == (rest > 0) {
		*target.(*time.Duration) = sum //nolint:forcetypeassert // the plan was made for this type
		return nil
	}
	return fmt.Errorf("cannot scan an interval of more than %d days into *time.Duration", longest/day)
}

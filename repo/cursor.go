package repo

import (
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// What a cursor holds of a row has to come back as the value that the database has, to the last bit, or rows are met twice or
// never. The JSON of a type can't be relied on for that: it may round a time, name a number or mask a secret, it has no word
// for NaN, and "null" is a value of a jsonb column too. Hence basic types travel as what they are underneath, types that
// convert themselves for the driver as what they convert to, and JSON is the last resort.

// null is what a cursor holds for NULL, and for nothing else.
const null = "null"

// placeOf returns a column's value as a cursor holds it.
func placeOf(v reflect.Value) (json.RawMessage, error) {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		if v.IsNil() {
			return json.RawMessage(null), nil
		}
		v = v.Elem()
	}
	if holdsNull(v) {
		return json.RawMessage(null), nil
	}
	if value, ok := basicPlace(v); ok {
		return json.Marshal(value)
	}
	switch value := v.Interface().(type) {
	case time.Time:
		return json.Marshal(timePlace(value))
	case driver.Valuer:
		return convertedPlace(value)
	default:
		return json.Marshal(value)
	}
}

// basicPlace returns what a value of a basic type is underneath.
func basicPlace(v reflect.Value) (any, bool) {
	switch {
	case v.Kind() == reflect.Bool:
		return v.Bool(), true
	case v.Kind() == reflect.String:
		return v.String(), true
	case v.CanInt():
		return v.Int(), true
	case v.CanUint():
		return v.Uint(), true
	case v.CanFloat() && (math.IsNaN(v.Float()) || math.IsInf(v.Float(), 0)):
		return strconv.FormatFloat(v.Float(), 'g', -1, 64), true
	case v.CanFloat():
		return v.Float(), true
	case isBytes(v.Type()):
		return v.Bytes(), true
	}
	return nil, false
}

// convertedPlace returns a value that converts itself as a cursor holds it.
func convertedPlace(valuer driver.Valuer) (json.RawMessage, error) {
	converted, err := valuer.Value()
	if err != nil {
		return nil, fmt.Errorf("%T: %w", valuer, err)
	}
	if raw, ok := converted.([]byte); ok {
		return json.Marshal(bytesPlace{raw})
	}
	return placeOf(reflect.ValueOf(converted))
}

// timePlace returns a time as the server writes it, which has words for every year and takes it for every type of time.
func timePlace(t time.Time) string {
	const layout = "-01-02 15:04:05.999999999Z07:00:00"
	if year := t.Year(); year < 1 {
		return fmt.Sprintf("%04d", 1-year) + t.Format(layout) + " BC"
	}
	return fmt.Sprintf("%04d", t.Year()) + t.Format(layout)
}

// bytesPlace tells the bytes that a value has converted itself to from a text.
type bytesPlace struct {
	Bytes []byte `json:"bytes"`
}

// placeArg returns what a cursor holds for a column of this type as an argument, nil for NULL.
func placeArg(data json.RawMessage, typ reflect.Type) (any, error) {
	if string(data) == null {
		return nil, nil //nolint:nilnil // nil is NULL
	}
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	v := reflect.New(typ).Elem()
	if _, basic := basicPlace(v); !basic && convertsItself(typ) {
		return convertedArg(data)
	}
	if err := setPlace(data, v); err != nil {
		return nil, fmt.Errorf("no %s: %w", typ, err)
	}
	return v.Interface(), nil
}

func convertsItself(typ reflect.Type) bool {
	return typ.Kind() == reflect.Interface || typ == reflect.TypeFor[time.Time]() || typ.Implements(reflect.TypeFor[driver.Valuer]())
}

// setPlace undoes basicPlace; other types are read from their JSON.
func setPlace(data json.RawMessage, v reflect.Value) error {
	switch {
	case v.Kind() == reflect.Bool:
		return decode(data, v.SetBool)
	case v.Kind() == reflect.String:
		return decode(data, v.SetString)
	case v.CanInt():
		return decode(data, v.SetInt)
	case v.CanUint():
		return decode(data, v.SetUint)
	case v.CanFloat():
		f, err := strconv.ParseFloat(strings.Trim(string(data), `"`), 64)
		v.SetFloat(f)
		return err
	case isBytes(v.Type()):
		return decode(data, v.SetBytes)
	}
	return json.Unmarshal(data, v.Addr().Interface()) //nolint:wrapcheck // placeArg does
}

func decode[V any](data json.RawMessage, set func(V)) error {
	var value V
	err := json.Unmarshal(data, &value)
	set(value)
	return err //nolint:wrapcheck // placeArg does
}

// convertedArg returns what a value has converted itself to as an argument. A number goes as text, which every type takes.
func convertedArg(data json.RawMessage) (any, error) {
	var err error
	switch data[0] {
	case '"':
		var text string
		err = json.Unmarshal(data, &text)
		return text, err //nolint:wrapcheck // the caller knows better
	case 't', 'f':
		return data[0] == 't', nil
	case '{', '[':
		var raw bytesPlace
		if err = json.Unmarshal(data, &raw); err == nil && raw.Bytes == nil {
			err = errors.New("no value of the driver's")
		}
		return raw.Bytes, err
	}
	return string(data), nil
}

// holdsNull reports whether a value is sent as NULL.
func holdsNull(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map:
		return v.IsNil()
	default:
	}
	switch value := v.Interface().(type) {
	case pgtype.RangeValuer:
		return value.IsNull()
	case driver.Valuer:
		sent, err := value.Value()
		return err == nil && sent == nil
	}
	return false
}

func isBytes(typ reflect.Type) bool {
	return typ.Kind() == reflect.Slice && typ.Elem().Kind() == reflect.Uint8
}

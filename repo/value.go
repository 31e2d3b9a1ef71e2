package repo

import (
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"reflect"
)

// fieldOf returns a row's field, or false if a pointer on the path to it is nil.
func fieldOf(v reflect.Value, c *column) (reflect.Value, bool) {
	if !c.indirect {
		return v.FieldByIndex(c.index), true
	}
	for _, i := range c.index {
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				return reflect.Value{}, false
			}
			v = v.Elem()
		}
		v = v.Field(i)
	}
	return v, true
}

func fieldIsZero(v reflect.Value, c *column) bool {
	f, ok := fieldOf(v, c)
	return !ok || f.IsZero()
}

// fieldArg returns a field's value as an argument of a statement.
func fieldArg(v reflect.Value, c *column) any {
	f, ok := fieldOf(v, c)
	if !ok {
		return nil
	}
	return columnArg(f.Interface(), c)
}

// columnArg returns a value for a column as an argument of a statement.
func columnArg(value any, c *column) any {
	if !c.roles.is(roleJSON) {
		return value
	}
	switch v := reflect.ValueOf(value); v.Kind() {
	case reflect.Invalid:
		return nil
	case reflect.Pointer, reflect.Map, reflect.Slice, reflect.Interface:
		if v.IsNil() {
			return nil
		}
	default:
	}
	return jsonArg{value}
}

// jsonArg is a value that is sent to the server as JSON text, regardless of its type.
type jsonArg struct{ value any }

// Value implements driver.Valuer, which pgx supports in every exec mode.
func (a jsonArg) Value() (driver.Value, error) {
	data, err := json.Marshal(a.value)
	if err != nil {
		return nil, fmt.Errorf("repo: %T can't be JSON: %w", a.value, err)
	}
	return string(data), nil
}

// keyArgs appends a key's values in the order of the model's key.
func (d *descriptor) keyArgs(args []any, key reflect.Value) []any {
	if d.keyIndex == nil {
		return append(args, columnArg(key.Interface(), &d.columns[d.key[0]]))
	}
	for _, index := range d.keyIndex {
		args = append(args, key.FieldByIndex(index).Interface())
	}
	return args
}

// rowKeyArgs appends the values of a row's key.
func (d *descriptor) rowKeyArgs(args []any, v reflect.Value) []any {
	for _, position := range d.key {
		args = append(args, fieldArg(v, &d.columns[position]))
	}
	return args
}

// intOf returns the value of an integer field.
func intOf(v reflect.Value) int64 {
	if v.CanInt() {
		return v.Int()
	}
	return int64(v.Uint()) //nolint:gosec // a version counts from 1
}

package testtypes

import (
	"math"
	"reflect"
	"time"
)

// Same reports whether two values are equal. Times must have the same offset, and NaN equals itself.
func Same(a, b reflect.Value) bool {
	if !a.IsValid() || !b.IsValid() {
		return a.IsValid() == b.IsValid()
	}
	if a.Type() != b.Type() {
		return false
	}
	switch a.Kind() {
	case reflect.Float32, reflect.Float64:
		return math.Float64bits(a.Float()) == math.Float64bits(b.Float()) || math.IsNaN(a.Float()) && math.IsNaN(b.Float())
	case reflect.Pointer, reflect.Interface:
		return a.IsNil() == b.IsNil() && (a.IsNil() || Same(a.Elem(), b.Elem()))
	case reflect.Slice:
		return a.IsNil() == b.IsNil() && sameElements(a, b)
	case reflect.Array:
		return sameElements(a, b)
	case reflect.Struct:
		return sameStruct(a, b)
	default:
		return reflect.DeepEqual(a.Interface(), b.Interface())
	}
}

func sameElements(a, b reflect.Value) bool {
	equal := a.Len() == b.Len()
	for i := 0; equal && i < a.Len(); i++ {
		equal = Same(a.Index(i), b.Index(i))
	}
	return equal
}

func sameStruct(a, b reflect.Value) bool {
	if at, ok := reflect.TypeAssert[time.Time](a); ok {
		other, _ := reflect.TypeAssert[time.Time](b)
		_, offset := at.Zone()
		_, otherOffset := other.Zone()
		return at.Equal(other) && offset == otherOffset
	}
	if a.Type().PkgPath() == "math/big" {
		return reflect.DeepEqual(a.Interface(), b.Interface())
	}
	for i := range a.NumField() {
		if a.Type().Field(i).IsExported() && !Same(a.Field(i), b.Field(i)) {
			return false
		}
	}
	return true
}

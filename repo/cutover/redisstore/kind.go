package redisstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/rdsfx-go/rdsfx/repo/cutover"
)

// Kind converts between the values of Redis and V. Use one of the functions of this package, or [Convert] for a type of yours.
type Kind[V any] struct {
	types  []Type
	decode func(Value) (V, error)
	encode func(V) (Value, error)
}

// Convert returns a Kind for keys of the given types. decode and encode must be inverse to each other. Their errors name the cause; the
// caller adds the key.
func Convert[V any](decode func(Value) (V, error), encode func(V) (Value, error), types ...Type) Kind[V] {
	return Kind[V]{types: types, decode: decode, encode: encode}
}

// Any keeps the values of all types as they are.
func Any() Kind[Value] {
	same := func(v Value) (Value, error) { return v, nil }
	return Convert(same, same, TypeString, TypeHash, TypeList, TypeSet, TypeSortedSet)
}

// JSON reads strings that contain JSON documents. Writing formats the document as json.Marshal does.
func JSON[V any]() Kind[V] {
	return Convert(func(v Value) (document V, err error) {
		err = json.Unmarshal(v.String, &document)
		return document, err //nolint:wrapcheck // the caller adds the key
	}, func(document V) (Value, error) {
		text, err := json.Marshal(document)
		return Value{Type: TypeString, String: text}, err
	}, TypeString)
}

// errNotText is the error for a text that PostgreSQL can't store as such.
var errNotText = errors.New("the value is not text without zero bytes: use Bytes or Any")

// Strings reads strings. A string that is no valid UTF-8 or contains a zero byte is an error: use [Bytes].
func Strings() Kind[string] {
	return Convert(func(v Value) (string, error) {
		return string(v.String), checkText(v)
	}, func(s string) (Value, error) {
		v := Value{Type: TypeString, String: []byte(s)}
		return v, checkText(v)
	}, TypeString)
}

// Bytes reads strings that need not be text.
func Bytes() Kind[[]byte] {
	return Convert(func(v Value) ([]byte, error) {
		return v.String, nil
	}, func(b []byte) (Value, error) {
		return Value{Type: TypeString, String: b}, nil
	}, TypeString)
}

// Hashes reads hashes of text. Redis has no empty hash: writing one is an error, delete the key instead.
func Hashes() Kind[map[string]string] {
	return Convert(func(v Value) (map[string]string, error) {
		return v.Hash, checkText(v)
	}, func(hash map[string]string) (Value, error) {
		v := Value{Type: TypeHash, Hash: hash}
		return v, checkText(v)
	}, TypeHash)
}

// Lists reads lists of text, from head to tail. Redis has no empty list: writing one is an error, delete the key instead.
func Lists() Kind[[]string] {
	return Convert(func(v Value) ([]string, error) {
		return v.List, checkText(v)
	}, func(list []string) (Value, error) {
		v := Value{Type: TypeList, List: list}
		return v, checkText(v)
	}, TypeList)
}

// Sets reads sets of text as sorted slices. Writing sorts a copy and removes duplicates. Redis has no empty set: writing one is an error,
// delete the key instead.
func Sets() Kind[[]string] {
	return Convert(func(v Value) ([]string, error) {
		return v.Set, checkText(v)
	}, func(set []string) (Value, error) {
		v := Value{Type: TypeSet, Set: slices.Compact(slices.Sorted(slices.Values(set)))}
		return v, checkText(v)
	}, TypeSet)
}

// SortedSets reads sorted sets of text as scores by member. Infinite scores are an error, because JSON has none: use [Any]. Redis has no
// empty sorted set: writing one is an error, delete the key instead.
func SortedSets() Kind[map[string]float64] {
	check := func(v Value) error {
		for member, value := range v.SortedSet {
			if math.IsInf(value, 0) || math.IsNaN(value) {
				return fmt.Errorf("the score of %q is %s: use Any", member, formatScore(value))
			}
		}
		return checkText(v)
	}
	return Convert(func(v Value) (map[string]float64, error) {
		return v.SortedSet, check(v)
	}, func(scores map[string]float64) (Value, error) {
		v := Value{Type: TypeSortedSet, SortedSet: scores}
		return v, check(v)
	}, TypeSortedSet)
}

func checkText(v Value) error {
	if !v.isText() {
		return errNotText
	}
	return nil
}

// fromRedis converts a value that was read.
func (k Kind[V]) fromRedis(key string, v Value) (value V, err error) {
	if !slices.Contains(k.types, v.Type) {
		return value, &cutover.KeyError{Key: key, Cause: &TypeError{Type: v.Type, Want: k.types}}
	}
	if value, err = k.decode(v); err != nil {
		return value, &cutover.KeyError{Key: key, Cause: err}
	}
	return value, nil
}

// toRedis converts a value to write.
func (k Kind[V]) toRedis(key string, value V) (Value, error) {
	v, err := k.encode(value)
	if err == nil && v.size() == 0 {
		err = fmt.Errorf("an empty %s does not exist in Redis: delete the key", v.Type)
	}
	if err != nil {
		return v, &cutover.KeyError{Key: key, Cause: err}
	}
	return v, nil
}

// TypeError is the error for a key whose type is not one of the Kind.
type TypeError struct {
	Type Type
	Want []Type
}

// Error names the types.
func (e *TypeError) Error() string {
	want := make([]string, len(e.Want))
	for i, t := range e.Want {
		want[i] = string(t)
	}
	return fmt.Sprintf("the key is a %s, want %s: exclude it with Match, or move it with another Kind", e.Type, strings.Join(want, " or "))
}

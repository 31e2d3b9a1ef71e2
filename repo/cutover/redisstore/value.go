package redisstore

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Type is the type of a key, as the command TYPE returns it.
type Type string

// The types of keys that can be moved. Streams and types of modules can't.
const (
	TypeString    Type = "string"
	TypeHash      Type = "hash"
	TypeList      Type = "list"
	TypeSet       Type = "set"
	TypeSortedSet Type = "zset"
)

// Value is the value of a key of any type. Only the field of its type is set.
//
// Its JSON form is an object of the type and the value, for example
//
//	{"type": "hash", "hash": {"field": "text"}}
//
// PostgreSQL's jsonb can't store text with zero bytes or invalid UTF-8. If a value contains any, all its strings are encoded in base64,
// and the object has "base64": true.
type Value struct {
	Type      Type
	String    []byte
	Hash      map[string]string
	List      []string           // from head to tail
	Set       []string           // sorted
	SortedSet map[string]float64 // scores of the members
}

// jsonValue is the JSON form of a Value. Scores are numbers, except infinite ones.
type jsonValue struct {
	Type      Type              `json:"type"`
	Base64    bool              `json:"base64,omitempty"`
	String    *string           `json:"string,omitempty"`
	Hash      map[string]string `json:"hash,omitempty"`
	List      []string          `json:"list,omitempty"`
	Set       []string          `json:"set,omitempty"`
	SortedSet map[string]score  `json:"zset,omitempty"`
}

// score is a score of a sorted set, which JSON has no number for if it is infinite.
type score float64

func (s score) MarshalJSON() ([]byte, error) {
	if math.IsInf(float64(s), 0) {
		return json.Marshal(formatScore(float64(s)))
	}
	return json.Marshal(float64(s))
}

func (s *score) UnmarshalJSON(data []byte) error {
	text := strings.Trim(string(data), `"`)
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return fmt.Errorf("score %s: %w", data, err)
	}
	*s = score(value)
	return nil
}

// MarshalJSON returns the JSON shape. Equal values have equal forms.
func (v Value) MarshalJSON() ([]byte, error) {
	shape := jsonValue{Type: v.Type}
	shape.Base64 = !v.isText()
	text := func(s string) string {
		if shape.Base64 {
			return base64.StdEncoding.EncodeToString([]byte(s))
		}
		return s
	}
	switch v.Type {
	case TypeString:
		s := text(string(v.String))
		shape.String = &s
	case TypeHash:
		shape.Hash = make(map[string]string, len(v.Hash))
		for field, value := range v.Hash {
			shape.Hash[text(field)] = text(value)
		}
	case TypeList:
		shape.List = convertAll(v.List, text)
	case TypeSet:
		shape.Set = convertAll(v.Set, text)
		slices.Sort(shape.Set)
	case TypeSortedSet:
		shape.SortedSet = make(map[string]score, len(v.SortedSet))
		for member, value := range v.SortedSet {
			shape.SortedSet[text(member)] = score(value)
		}
	default:
		return nil, fmt.Errorf("redisstore: a value of the type %q has no JSON form", v.Type)
	}
	return json.Marshal(shape)
}

// UnmarshalJSON reads the JSON shape.
func (v *Value) UnmarshalJSON(data []byte) error {
	var shape jsonValue
	if err := json.Unmarshal(data, &shape); err != nil {
		return fmt.Errorf("redisstore: value: %w", err)
	}
	var failed error
	text := func(s string) string {
		if !shape.Base64 {
			return s
		}
		decoded, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			failed = fmt.Errorf("redisstore: value: %w", err)
		}
		return string(decoded)
	}
	*v = Value{Type: shape.Type}
	switch shape.Type {
	case TypeString:
		if shape.String == nil {
			return fmt.Errorf(`redisstore: value: the type is %q, but there is no "string"`, shape.Type)
		}
		v.String = []byte(text(*shape.String))
	case TypeHash:
		v.Hash = make(map[string]string, len(shape.Hash))
		for field, value := range shape.Hash {
			v.Hash[text(field)] = text(value)
		}
	case TypeList:
		v.List = convertAll(shape.List, text)
	case TypeSet:
		v.Set = convertAll(shape.Set, text)
		slices.Sort(v.Set)
	case TypeSortedSet:
		v.SortedSet = make(map[string]float64, len(shape.SortedSet))
		for member, value := range shape.SortedSet {
			v.SortedSet[text(member)] = float64(value)
		}
	default:
		return fmt.Errorf("redisstore: value: unknown type %q", shape.Type)
	}
	return failed
}

func convertAll(in []string, convert func(string) string) []string {
	out := make([]string, len(in))
	for i, s := range in {
		out[i] = convert(s)
	}
	return out
}

// isText reports whether PostgreSQL can store all parts of the value as text.
func (v Value) isText() bool {
	for field, value := range v.Hash {
		if !isText(field) || !isText(value) {
			return false
		}
	}
	for member := range v.SortedSet {
		if !isText(member) {
			return false
		}
	}
	notText := func(s string) bool { return !isText(s) }
	return isText(string(v.String)) && !slices.ContainsFunc(v.List, notText) && !slices.ContainsFunc(v.Set, notText)
}

// isText reports whether PostgreSQL can store s as text (PostgreSQL manual, "Character Types").
func isText(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

// size returns the number of elements. A key without elements does not exist in Redis.
func (v Value) size() int {
	if v.Type == TypeString {
		return 1
	}
	return len(v.Hash) + len(v.List) + len(v.Set) + len(v.SortedSet)
}

// elements returns the arguments of the command that writes the value.
func (v Value) elements() []any {
	var out []any
	switch v.Type {
	case TypeString:
		out = append(out, v.String)
	case TypeHash:
		for field, value := range v.Hash {
			out = append(out, field, value)
		}
	case TypeList:
		for _, element := range v.List {
			out = append(out, element)
		}
	case TypeSet:
		for _, member := range v.Set {
			out = append(out, member)
		}
	case TypeSortedSet:
		for member, value := range v.SortedSet {
			out = append(out, formatScore(value), member)
		}
	}
	return out
}

// parseValue converts the elements that the command of the type returns.
func parseValue(kind Type, reply any) (Value, error) {
	v := Value{Type: kind}
	if kind == TypeString {
		text, ok := reply.(string)
		if !ok {
			return v, fmt.Errorf("unexpected reply %T", reply)
		}
		v.String = []byte(text)
		return v, nil
	}
	elements, err := stringList(reply)
	if err != nil {
		return v, err
	}
	switch kind {
	case TypeHash:
		v.Hash = make(map[string]string, len(elements)/2)
		for i := 1; i < len(elements); i += 2 {
			v.Hash[elements[i-1]] = elements[i]
		}
	case TypeList:
		v.List = elements
	case TypeSet:
		slices.Sort(elements)
		v.Set = elements
	case TypeSortedSet:
		v.SortedSet = make(map[string]float64, len(elements)/2)
		for i := 1; i < len(elements); i += 2 {
			if v.SortedSet[elements[i-1]], err = strconv.ParseFloat(elements[i], 64); err != nil {
				return v, err
			}
		}
	default:
		return v, fmt.Errorf("keys of the type %q can't be moved", kind)
	}
	return v, nil
}

func stringList(reply any) ([]string, error) {
	list, ok := reply.([]any)
	if !ok {
		return nil, fmt.Errorf("unexpected reply %T", reply)
	}
	out := make([]string, len(list))
	for i, element := range list {
		if out[i], ok = element.(string); !ok {
			return nil, fmt.Errorf("unexpected reply %T", element)
		}
	}
	return out, nil
}

// formatScore formats a score as Redis reads it.
func formatScore(value float64) string {
	switch {
	case math.IsInf(value, 1):
		return "+inf"
	case math.IsInf(value, -1):
		return "-inf"
	}
	return strconv.FormatFloat(value, 'g', -1, 64)
}

package pgcodec

import (
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
)

// slice passes the elements of a slice to pgx's array codec by address, which needs no allocation. pgx's own wrappers copy each
// element to the heap.
type slice[T any] []T

func (s slice[T]) Dimensions() []pgtype.ArrayDimension {
	if s == nil {
		return nil
	}
	return []pgtype.ArrayDimension{{Length: int32(len(s)), LowerBound: 1}} //nolint:gosec // the protocol has the same limit
}

func (s slice[T]) Index(i int) any { return &s[i] }

func (slice[T]) IndexType() any { return (*T)(nil) }

// wrapSlice is a wrapper function in pgx's sense: it converts a value that no codec encodes.
func wrapSlice(value any) (plan pgtype.WrappedEncodePlanNextSetter, next any, ok bool) {
	switch value := value.(type) {
	case []uuid.UUID:
		return &encodeSlice[uuid.UUID]{}, slice[uuid.UUID](value), true
	case []time.Time:
		return &encodeSlice[time.Time]{}, slice[time.Time](value), true
	}
	return nil, nil, false
}

type encodeSlice[T any] struct{ next pgtype.EncodePlan }

func (p *encodeSlice[T]) SetNext(next pgtype.EncodePlan) { p.next = next }

func (p *encodeSlice[T]) Encode(value any, buf []byte) ([]byte, error) {
	values := value.([]T)                       //nolint:forcetypeassert // the plan was made for this type
	return p.next.Encode(slice[T](values), buf) //nolint:wrapcheck // pgx names the argument and wraps
}

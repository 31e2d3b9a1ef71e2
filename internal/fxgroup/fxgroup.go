// Package fxgroup adds values to the value groups of an Fx application.
package fxgroup

import (
	"strconv"

	"go.uber.org/fx"
)

// Supply adds each of the values to the group.
func Supply[T any](group string, values ...T) fx.Option {
	tag := fx.ResultTags("group:" + strconv.Quote(group))
	supplied := make([]any, len(values))
	for i, value := range values {
		supplied[i] = fx.Annotate(value, tag)
	}
	return fx.Supply(supplied...)
}

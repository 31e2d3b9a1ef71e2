package fxgroup_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"go.uber.org/fx"
	"go.uber.org/fx/fxtest"

	"github.com/rdsfx-go/rdsfx/internal/fxgroup"
)

func TestSupply_AddsEachValueToTheGroup(t *testing.T) {
	t.Parallel()
	var got []string
	fxtest.New(t, fx.NopLogger, fxgroup.Supply("some.names", "a", "b"), fxgroup.Supply[string]("some.names"), fxgroup.Supply("other", "c"),
		fx.Invoke(fx.Annotate(func(names []string) { got = names }, fx.ParamTags(`group:"some.names"`))))
	assert.ElementsMatch(t, []string{"a", "b"}, got)
}

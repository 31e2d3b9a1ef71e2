package fxtest_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

func TestNobodyElsesServerIsHarmed(t *testing.T) {
	t.Setenv(embedded.EnvURL, "postgres://prod.example.com/orders")
	messages := failures(t, func(tb testing.TB) { fxtest.NewCluster(tb) })
	require.Len(t, messages, 1)
	assert.Contains(t, messages[0], "unset RDSFX_POSTGRES_URL")
}

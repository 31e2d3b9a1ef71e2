package embedded_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"time"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

func TestAServerAnswers(t *testing.T) {
	t.Parallel()
	began := time.Now()
	server := start(t)
	t.Log(time.Since(began))
	require.Equal(t, "C", query[string](t, server.URL(), "SHOW lc_collate"))
}

func TestAServerAnswersOnTCP(t *testing.T) {
	t.Parallel()
	server := start(t, embedded.TCP())
	t.Log(server.URL())
	require.Equal(t, "127.0.0.1", query[string](t, server.URL(), "SHOW listen_addresses"))
}

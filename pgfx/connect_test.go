package pgfx_test

import (
	"context"
	"fmt"
	"net"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestConnect_SharesTimeAmongAddresses(t *testing.T) {
	t.Parallel()
	silent, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0") // accepts connections and never replies
	require.NoError(t, err)
	t.Cleanup(func() { _ = silent.Close() })
	_, silentPort, err := net.SplitHostPort(silent.Addr().String())
	require.NoError(t, err)
	actual, err := pgx.ParseConfig(server.URL())
	require.NoError(t, err)

	db := open(t, pgfx.Config{
		URL:      fmt.Sprintf("host=127.0.0.1,%s port=%s,%d sslmode=disable", actual.Host, silentPort, actual.Port),
		Username: actual.User, Password: actual.Password, Database: actual.Database,
	})
	ctx, cancel := context.WithTimeout(t.Context(), eventually)
	defer cancel()
	conn, err := db.Connect(ctx, "test")
	require.NoError(t, err)
	require.NoError(t, conn.Close(ctx))
}

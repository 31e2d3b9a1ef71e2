package fxtest

import (
	"context"
	"fmt"
	"sync"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

// serverSettings suit a server on which many short-lived databases come and go.
func serverSettings() []embedded.Option {
	return []embedded.Option{
		embedded.TCP(), // for proxies and for what can't speak through a Unix socket
		embedded.Setting("max_connections", "300"),
		embedded.Setting("max_prepared_transactions", "20"),
		embedded.Setting("wal_level", "minimal"),
		embedded.Setting("max_wal_senders", "0"),
		embedded.Setting("autovacuum_naptime", "10min"), // its workers would hold databases that a test wants to drop
	}
}

// shared is the server of this process: one that all test processes use, or the one that RDSFX_POSTGRES_URL names.
var shared struct { //nolint:gochecknoglobals // the server belongs to the process
	mu     sync.Mutex
	server *embedded.Server
	swept  bool
}

// serverURL returns the address of the test server's maintenance database, and starts the server where that is needed.
// The lease on it ends with the process.
func serverURL(ctx context.Context) (string, error) {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.server == nil {
		server, err := embedded.Shared(ctx, serverSettings()...)
		if err != nil {
			return "", fmt.Errorf("shared server: %w", err)
		}
		shared.server = server
	}
	address := shared.server.URL()
	if !shared.swept {
		if err := sweep(ctx, address); err != nil {
			return "", err
		}
		shared.swept = true
	}
	return address, nil
}

package fxtest

import (
	"context"
	"fmt"
	"sync"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

// serverSettings returns settings for a server with many short-lived databases.
func serverSettings() []embedded.Option {
	return []embedded.Option{
		embedded.TCP(), // for proxies and for clients without support for Unix sockets
		embedded.Setting("max_connections", "300"),
		embedded.Setting("max_prepared_transactions", "20"),
		embedded.Setting("wal_level", "minimal"),
		embedded.Setting("max_wal_senders", "0"),
		embedded.Setting("autovacuum_naptime", "10min"), // a worker would prevent a database from being dropped
	}
}

// shared is the server that all tests of this process use.
var shared struct { //nolint:gochecknoglobals // one server for each process
	mu     sync.Mutex
	server *embedded.Server
	swept  bool
}

// serverURL returns the URL of the test server's maintenance database. The first call starts the server if necessary and
// drops stale databases. The process keeps its lease on the server until it exits.
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
	url := shared.server.URL()
	if !shared.swept {
		if err := dropStaleDatabases(ctx, url); err != nil {
			return "", err
		}
		shared.swept = true
	}
	return url, nil
}

package redisstore_test

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rdsfx-go/rdsfx/internal/testredis"
	"github.com/rdsfx-go/rdsfx/repo/cutover/redisstore"
)

// shared is the cluster that tests use in turn, because starting one takes seconds.
var shared struct {
	turn    sync.Mutex
	cluster *testredis.Cluster
}

// withCluster stops the shared cluster after the tests.
type withCluster struct{ *testing.M }

func (m withCluster) Run() int {
	code := m.M.Run()
	if shared.cluster != nil {
		_ = shared.cluster.Stop()
	}
	return code
}

func TestMain(m *testing.M) {
	if text := os.Getenv(jobEnv); text != "" {
		runJob(text)
	}
	goleak.VerifyTestMain(withCluster{m})
}

// newServer starts a Redis that only this test uses, or skips the test.
func newServer(tb testing.TB, args ...string) *testredis.Server {
	tb.Helper()
	server, err := testredis.Start(tb.Context(), args...)
	if errors.Is(err, testredis.ErrNotInstalled) {
		tb.Skip(err)
	}
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, server.Stop()) })
	return server
}

func connect(t *testing.T, network, address string) *redis.Client {
	t.Helper()
	client := redis.NewClient(&redis.Options{Network: network, Addr: address, ContextTimeoutEnabled: true})
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return client
}

func newClient(t *testing.T, args ...string) *redis.Client {
	t.Helper()
	server := newServer(t, args...)
	return connect(t, server.Network(), server.Address())
}

// newCluster returns a client of an empty cluster. Other tests wait until this one has ended.
func newCluster(t *testing.T) *redis.ClusterClient {
	t.Helper()
	newServer(t) // or skip
	shared.turn.Lock()
	t.Cleanup(shared.turn.Unlock)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if shared.cluster == nil {
		cluster, err := testredis.StartCluster(ctx, 3)
		require.NoError(t, err)
		shared.cluster = cluster
	}
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: shared.cluster.Addresses(), ContextTimeoutEnabled: true})
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	require.NoError(t, client.ForEachMaster(ctx, func(ctx context.Context, server *redis.Client) error {
		return server.FlushAll(ctx).Err()
	}))
	return client
}

func newStore[V any](t *testing.T, client redis.UniversalClient, kind redisstore.Kind[V], opts ...redisstore.Option) *redisstore.Store[V] {
	t.Helper()
	store, err := redisstore.New(client, "test", kind, opts...)
	require.NoError(t, err)
	return store
}

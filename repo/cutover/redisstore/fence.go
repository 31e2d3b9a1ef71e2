package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Fence raises the fence of every part to the epoch if it is lower, and returns the lowest. Zero only reads it. When the fence is first
// raised, Fence calls [Store.Check].
func (s *Store[V]) Fence(ctx context.Context, epoch int64) (int64, error) {
	fence, err := s.raise(ctx, 0)
	if err != nil || fence >= epoch {
		return fence, err
	}
	if fence == 0 {
		if err := s.Check(ctx); err != nil {
			return 0, err
		}
	}
	return s.raise(ctx, epoch)
}

// raise raises the fence of each part that is lower, and returns the lowest.
func (s *Store[V]) raise(ctx context.Context, epoch int64) (int64, error) {
	lowest := int64(-1)
	err := s.onParts(ctx, opFence, epoch, 0, func(_ []int, reply []int64) {
		for _, fence := range reply {
			if lowest < 0 || fence < lowest {
				lowest = fence
			}
		}
	})
	if err != nil {
		return 0, fmt.Errorf("redisstore: fence: %w", err)
	}
	return lowest, nil
}

// Clean removes the marks and the versions of every part. The fences stay.
func (s *Store[V]) Clean(ctx context.Context) error {
	if err := s.onParts(ctx, opClean, 0, 0, func([]int, []int64) {}); err != nil {
		return fmt.Errorf("redisstore: clean: %w", err)
	}
	return nil
}

// Check returns an error if the servers can't be used. That is so for a replica, and for a cluster without a client for clusters. An
// eviction policy allkeys-* may remove the repair log, so it is refused too.
func (s *Store[V]) Check(ctx context.Context) error {
	check := func(ctx context.Context, server *redis.Client) error { return checkServer(ctx, server, s.cluster) }
	var err error
	switch client := s.client.(type) {
	case *redis.ClusterClient:
		err = client.ForEachMaster(ctx, check)
	case *redis.Client:
		err = check(ctx, client)
	}
	if err != nil {
		return fmt.Errorf("redisstore: check the server: %w", err)
	}
	return nil
}

func checkServer(ctx context.Context, server *redis.Client, cluster bool) error {
	info, err := server.Info(ctx).Result()
	if err != nil {
		return err //nolint:wrapcheck // the caller adds the operation
	}
	fields := infoFields(info)
	switch policy := fields["maxmemory_policy"]; {
	case fields["role"] == "slave":
		return errors.New("it is a replica: connect to its master")
	case fields["cluster_enabled"] == "1" && !cluster:
		return errors.New("it belongs to a cluster: use redis.NewClusterClient")
	case strings.HasPrefix(policy, "allkeys-"):
		return fmt.Errorf("its maxmemory-policy is %s, which may evict the repair log: set noeviction or a policy volatile-*", policy)
	}
	return nil
}

// infoFields returns the fields of the reply to INFO.
func infoFields(info string) map[string]string {
	fields := make(map[string]string)
	for line := range strings.Lines(info) {
		if name, value, found := strings.Cut(strings.TrimSpace(line), ":"); found {
			fields[name] = value
		}
	}
	return fields
}

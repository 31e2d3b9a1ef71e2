package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// names are the bookkeeping keys for the keys of one hash slot: the epoch, the marks by time, the versions by key.
type names struct{ fence, marks, versions string }

// namesOf returns the bookkeeping keys of a part: 0 without a cluster, else a hash slot.
func (s *Store[V]) namesOf(part int) names {
	prefix := s.prefix + s.tagOf(part)
	return names{fence: prefix + "fence", marks: prefix + "marks", versions: prefix + "versions"}
}

func (s *Store[V]) tagOf(part int) string {
	if !s.cluster {
		return ""
	}
	return "{" + slotTags()[part] + "}:"
}

// partOf returns the part of the bookkeeping that has the hash slot of a key.
func (s *Store[V]) partOf(key string) int {
	if !s.cluster {
		return 0
	}
	return slotOf(key)
}

// parts returns the number of parts of the bookkeeping.
func (s *Store[V]) parts() int {
	if !s.cluster {
		return 1
	}
	return slotCount
}

// onParts runs an operation of the script for parts on each server, for all parts beginning with a part. It calls use with the parts of a
// server and its reply.
func (s *Store[V]) onParts(ctx context.Context, op string, epoch int64, from int, use func(parts []int, reply []int64)) error {
	servers := make(map[*redis.Client][]int)
	for part := from; part < s.parts(); part++ {
		server, err := s.serverOf(ctx, part)
		if err != nil {
			return err
		}
		servers[server] = append(servers[server], part)
	}
	for server, parts := range servers {
		args := []any{op, strconv.FormatInt(epoch, 10), s.prefix}
		for _, part := range parts {
			args = append(args, s.tagOf(part))
		}
		reply, err := partsScript.Run(ctx, server, nil, args...).Int64Slice()
		if err != nil && !errors.Is(err, redis.Nil) {
			if cluster, ok := s.client.(*redis.ClusterClient); ok {
				cluster.ReloadState(ctx) // slots may have moved
			}
			return err //nolint:wrapcheck // the caller adds the operation
		}
		use(parts, reply)
	}
	return nil
}

// serverOf returns the client of the server that has a part.
func (s *Store[V]) serverOf(ctx context.Context, part int) (*redis.Client, error) {
	switch client := s.client.(type) {
	case *redis.Client:
		return client, nil
	case *redis.ClusterClient:
		server, err := client.MasterForKey(ctx, s.namesOf(part).fence)
		if err != nil {
			return nil, fmt.Errorf("find the server of hash slot %d: %w", part, err)
		}
		return server, nil
	}
	return nil, errors.New("unknown client") // New refuses others
}

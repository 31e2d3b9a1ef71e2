package redisstore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/rdsfx-go/rdsfx/repo/cutover"
)

// errCursor is the error for a cursor that was not returned by the same method.
var errCursor = errors.New("redisstore: invalid cursor")

// position is the position of a scan. Its cursor has a meaning only within one run of a server, which orders its keys by a random seed.
type position struct {
	topology string // of a cluster
	server   int    // of a cluster
	run      string // ID of the server's run, empty at the start of a server
	cursor   uint64
}

func (p position) String() string {
	return fmt.Sprintf("%s:%d:%s:%d", p.topology, p.server, p.run, p.cursor)
}

func parsePosition(text string) (p position, err error) {
	if text == "" {
		return p, nil
	}
	parts := strings.Split(text, ":")
	if len(parts) != 4 {
		return p, errCursor
	}
	server, err1 := strconv.ParseUint(parts[1], 10, 31)
	cursor, err2 := strconv.ParseUint(parts[3], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return p, errCursor
	}
	return position{topology: parts[0], server: int(server), run: parts[2], cursor: cursor}, nil
}

// scan returns the next keys and the cursor for those that follow, or "" at the end. The first call takes "".
//
// SCAN returns each key that exists from the start to the end of the whole iteration at least once. It may return keys more than once,
// and may miss keys that are created meanwhile (Redis documentation, SCAN). In a cluster, the servers are scanned one after the other.
func scan(ctx context.Context, client redis.UniversalClient, cursor, match string, count int) (keys []string, next string, err error) {
	at, err := parsePosition(cursor)
	if err != nil {
		return nil, "", err
	}
	if cluster, ok := client.(*redis.ClusterClient); ok {
		return scanCluster(ctx, cluster, at, match, count)
	}
	if keys, err = scanServer(ctx, client, &at, match, count); err != nil || at.cursor == 0 {
		return keys, "", err
	}
	return keys, at.String(), nil
}

// scanServer returns the next keys of a server and advances the position. A cursor of 0 is the end.
func scanServer(ctx context.Context, client redis.Cmdable, at *position, match string, count int) ([]string, error) {
	pipeline := client.Pipeline() // one connection, so one run of the server
	info, page := pipeline.Info(ctx, "server"), pipeline.Scan(ctx, at.cursor, match, int64(count))
	if _, err := pipeline.Exec(ctx); err != nil {
		return nil, fmt.Errorf("redisstore: scan: %w", err)
	}
	run := infoFields(info.Val())["run_id"]
	if at.run != "" && at.run != run {
		return nil, cutover.ErrCursorLost
	}
	var keys []string
	at.run = run
	keys, at.cursor = page.Val()
	return keys, nil
}

// scanCluster scans the server of the position.
func scanCluster(ctx context.Context, client *redis.ClusterClient, at position, match string, count int) (
	keys []string, next string, err error,
) {
	topology, masters, err := describeCluster(ctx, client)
	if err != nil {
		return nil, "", err
	}
	if at.topology == "" {
		at.topology = topology
	}
	if at.topology != topology || at.server >= len(masters) {
		return nil, "", cutover.ErrCursorLost
	}
	if keys, err = scanServer(ctx, masters[at.server], &at, match, count); err != nil {
		return nil, "", err
	}
	if at.cursor != 0 {
		return keys, at.String(), nil
	}
	at = position{topology: topology, server: at.server + 1}
	if at.server < len(masters) {
		return keys, at.String(), nil
	}
	// Keys that moved to a server which was scanned before would be missing.
	if topology, _, err = describeCluster(ctx, client); err == nil && topology != at.topology {
		err = cutover.ErrCursorLost
	}
	return keys, "", err
}

// describeCluster returns a text that changes when a slot moves from one server to another, and the servers that have slots in a stable
// order. A cluster in which slots are moving at the moment is an error: their keys are spread over two servers.
func describeCluster(ctx context.Context, client *redis.ClusterClient) (topology string, masters []*redis.Client, err error) {
	type master struct {
		id, slots string
		client    *redis.Client
	}
	var (
		mu  sync.Mutex
		all []master
	)
	err = client.ForEachMaster(ctx, func(ctx context.Context, server *redis.Client) error {
		nodes, err := server.ClusterNodes(ctx).Result()
		if err != nil {
			return err //nolint:wrapcheck // wrapped below
		}
		id, slots, moving := ownSlots(nodes)
		if moving {
			return errors.New("slots are moving: finish resharding, then scan")
		}
		mu.Lock()
		defer mu.Unlock()
		all = append(all, master{id, slots, server})
		return nil
	})
	if err != nil {
		return "", nil, fmt.Errorf("redisstore: read the nodes of the cluster: %w", err)
	}
	if len(all) == 0 {
		return "", nil, errors.New("redisstore: the cluster has no master")
	}
	slices.SortFunc(all, func(a, b master) int { return strings.Compare(a.id, b.id) })
	hash := sha256.New()
	for _, m := range all {
		_, _ = fmt.Fprintf(hash, "%s %s\n", m.id, m.slots)
		masters = append(masters, m.client)
	}
	return hex.EncodeToString(hash.Sum(nil)[:8]), masters, nil
}

// ownSlots returns the node ID and the slots of the server that has sent this list, and whether a slot is moving. Such slots are
// [slot->-node] or [slot-<-node] (Redis documentation, CLUSTER NODES).
func ownSlots(nodes string) (id, slots string, moving bool) {
	const fieldsBeforeSlots = 8
	for line := range strings.Lines(nodes) {
		fields := strings.Fields(line)
		if len(fields) < fieldsBeforeSlots || !strings.Contains(fields[2], "myself") {
			continue
		}
		slots = strings.Join(fields[fieldsBeforeSlots:], " ")
		return fields[0], slots, strings.Contains(slots, "[")
	}
	return "", "", false
}

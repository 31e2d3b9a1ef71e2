package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/repo/cutover"
	"github.com/rdsfx-go/rdsfx/repo/cutover/redisstore"
)

// both returns functions that connect to a single server and to a cluster.
func both() map[string]func(*testing.T) redis.UniversalClient {
	return map[string]func(*testing.T) redis.UniversalClient{
		"server":  func(t *testing.T) redis.UniversalClient { t.Helper(); return newClient(t) },
		"cluster": func(t *testing.T) redis.UniversalClient { t.Helper(); return newCluster(t) },
	}
}

func found[V any](key string, value V) cutover.Entry[V] {
	return cutover.Entry[V]{Key: key, Found: true, Value: value}
}

func get[V any](t *testing.T, store *redisstore.Store[V], key string) cutover.Entry[V] {
	t.Helper()
	entries, err := store.Get(t.Context(), key)
	require.NoError(t, err)
	require.Len(t, entries, 1)
	return entries[0]
}

func TestStore_FencesWrites(t *testing.T) {
	t.Parallel()
	for name, connect := range both() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := connect(t)
			store := newStore(t, client, redisstore.Strings())
			ctx := t.Context()
			fence, err := store.Fence(ctx, 0)
			require.NoError(t, err)
			assert.Zero(t, fence)
			write := cutover.Write[string]{Entry: found("k", "before")}
			require.NoError(t, store.Write(ctx, write), "the fence is 0 until it is raised")

			fence, err = store.Fence(ctx, 5)
			require.NoError(t, err)
			assert.EqualValues(t, 5, fence)
			for _, epoch := range []int64{0, 4, 6} {
				write := cutover.Write[string]{Entry: found("k", "refused"), Epoch: epoch, Mark: "m"}
				require.ErrorIs(t, store.Write(ctx, write), cutover.ErrFenced)
				require.ErrorIs(t, store.Copy(ctx, cutover.Copy[string]{Entry: write.Entry, Epoch: epoch, Version: 9}), cutover.ErrFenced)
				require.ErrorIs(t, store.Update(ctx, "k", func(cutover.Entry[string]) (cutover.Write[string], error) {
					return write, nil
				}), cutover.ErrFenced)
			}
			assert.Equal(t, found("k", "before"), get(t, store, "k"))
			count, err := store.CountMarks(ctx)
			require.NoError(t, err)
			assert.Zero(t, count, "a refused write leaves no mark")

			for _, lower := range []int64{5, 3} {
				fence, err = store.Fence(ctx, lower)
				require.NoError(t, err)
				assert.EqualValues(t, 5, fence)
			}
			for i := range 50 { // in a cluster, in many slots
				key := fmt.Sprintf("key-%d", i)
				require.NoError(t, store.Write(ctx, cutover.Write[string]{Entry: found(key, "after"), Epoch: 5}))
				assert.Equal(t, found(key, "after"), get(t, store, key))
			}
		})
	}
}

// TestStore_RaisesAFenceThatWasRaisedInPart begins with a raise that reached all hash slots but one.
func TestStore_RaisesAFenceThatWasRaisedInPart(t *testing.T) {
	t.Parallel()
	client := newCluster(t)
	store := newStore(t, client, redisstore.Strings())
	ctx := t.Context()
	_, err := store.Fence(ctx, 5)
	require.NoError(t, err)
	slot, err := client.ClusterKeySlot(ctx, "k").Result()
	require.NoError(t, err)
	server, err := client.MasterForKey(ctx, "k")
	require.NoError(t, err)
	fences, err := server.ClusterGetKeysInSlot(ctx, int(slot), 10).Result()
	require.NoError(t, err)
	require.Len(t, fences, 1)
	require.NoError(t, client.Set(ctx, fences[0], 3, 0).Err())
	fence, err := store.Fence(ctx, 0)
	require.NoError(t, err)
	assert.EqualValues(t, 3, fence)
	require.ErrorIs(t, store.Write(ctx, cutover.Write[string]{Entry: found("k", "v"), Epoch: 5}), cutover.ErrFenced)

	fence, err = store.Fence(ctx, 5)
	require.NoError(t, err)
	assert.EqualValues(t, 5, fence)
	require.NoError(t, store.Write(ctx, cutover.Write[string]{Entry: found("k", "v"), Epoch: 5}))
}

func TestStore_CopiesOnlyNewerVersions(t *testing.T) {
	t.Parallel()
	for name, connect := range both() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := connect(t)
			store := newStore(t, client, redisstore.Strings())
			ctx := t.Context()
			_, err := store.Fence(ctx, 1)
			require.NoError(t, err)
			send := func(version int64, e cutover.Entry[string]) {
				t.Helper()
				require.NoError(t, store.Copy(ctx, cutover.Copy[string]{Entry: e, Version: version, Epoch: 1}))
			}
			send(10, found("k", "ten"))
			send(9, found("k", "nine"))
			send(10, found("k", "ten again"))
			assert.Equal(t, found("k", "ten"), get(t, store, "k"))
			send(11, cutover.Entry[string]{Key: "k"})
			send(10, found("k", "resurrected"))
			assert.False(t, get(t, store, "k").Found, "the version of an absent key is kept")
			send(12, cutover.Entry[string]{Key: "k", Found: true, Value: "late", Expires: time.Now().Add(-time.Hour)})
			assert.False(t, get(t, store, "k").Found, "it has expired")
			send(11, found("k", "old"))
			assert.False(t, get(t, store, "k").Found)

			require.NoError(t, store.Clean(ctx))
			require.NoError(t, store.Clean(ctx))
			send(1, found("k", "one"))
			assert.Equal(t, found("k", "one"), get(t, store, "k"), "Clean removes the versions")
			require.ErrorIs(t, store.Write(ctx, cutover.Write[string]{Entry: found("k", "v")}), cutover.ErrFenced, "but not the fence")
		})
	}
}

func TestStore_KeepsAMarkForEachWrite(t *testing.T) {
	t.Parallel()
	for name, connect := range both() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := connect(t)
			store := newStore(t, client, redisstore.Strings())
			ctx := t.Context()
			started := time.Now().Add(-time.Second)
			var want []cutover.Mark
			for i := range 30 {
				mark := cutover.Mark{ID: fmt.Sprintf("id-%02d", i), Key: fmt.Sprintf("key:%d \x00", i/3)}
				want = append(want, mark)
				w := cutover.Write[string]{Entry: cutover.Entry[string]{Key: mark.Key, Found: i%2 == 0, Value: "v"}, Mark: mark.ID}
				require.NoError(t, store.Write(ctx, w))
			}
			got := allMarks(t, store, 7)
			assert.ElementsMatch(t, want, withoutTimes(got))
			for _, mark := range got {
				assert.WithinRange(t, mark.At, started, time.Now().Add(time.Second))
			}
			if _, single := client.(*redis.Client); single {
				assert.Equal(t, want, withoutTimes(got), "the oldest comes first")
			}
			count, err := store.CountMarks(ctx)
			require.NoError(t, err)
			assert.EqualValues(t, 30, count.Count)
			oldest := slices.MinFunc(got, func(a, b cutover.Mark) int { return a.At.Compare(b.At) })
			assert.Equal(t, oldest.At, count.Oldest)

			require.NoError(t, store.RemoveMarks(ctx))
			require.NoError(t, store.RemoveMarks(ctx, append(want[:29:29], cutover.Mark{ID: "unknown", Key: "k"})...))
			assert.Equal(t, want[29:], withoutTimes(allMarks(t, store, 7)))
			require.NoError(t, store.RemoveMarks(ctx, got...), "with their times")
			count, err = store.CountMarks(ctx)
			require.NoError(t, err)
			assert.Zero(t, count)
			assert.Empty(t, allMarks(t, store, 7))
		})
	}
}

func withoutTimes(marks []cutover.Mark) []cutover.Mark {
	out := slices.Clone(marks)
	for i := range out {
		out[i].At = time.Time{}
	}
	return out
}

func allMarks[V any](t *testing.T, store *redisstore.Store[V], limit int) (marks []cutover.Mark) {
	t.Helper()
	for cursor := ""; ; {
		page, err := store.Marks(t.Context(), cursor, limit)
		require.NoError(t, err)
		assert.LessOrEqual(t, len(page.Marks), limit)
		marks = append(marks, page.Marks...)
		if cursor = page.Next; cursor == "" {
			return marks
		}
	}
}

func TestMarks_PagesThroughOneMoment(t *testing.T) {
	t.Parallel()
	client := newClient(t)
	store := newStore(t, client, redisstore.Strings())
	for i := range 100 {
		member := redis.Z{Score: 1e15, Member: fmt.Sprintf("id-%03d\x00key", i)}
		require.NoError(t, client.ZAdd(t.Context(), "rdsfx:cutover:test:marks", member).Err())
	}
	marks := allMarks(t, store, 3)
	require.Len(t, marks, 100)
	assert.Equal(t, cutover.Mark{ID: "id-099", Key: "key", At: time.UnixMicro(1e15)}, marks[99])
	for _, cursor := range []string{"1:2", "x:1:", "5:1:", "0:1:zz", "-1:1:"} {
		_, err := store.Marks(t.Context(), cursor, 1)
		require.ErrorContains(t, err, "invalid cursor", cursor)
	}
}

func TestStore_UpdatesUnchangedKeys(t *testing.T) {
	t.Parallel()
	for name, connect := range both() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := connect(t)
			store := newStore(t, client, redisstore.Hashes())
			ctx := t.Context()
			hash := func(n int) map[string]string { return map[string]string{"n": strconv.Itoa(n)} }
			set := func(n int, interfere func()) error {
				return store.Update(ctx, "k", func(cutover.Entry[map[string]string]) (cutover.Write[map[string]string], error) {
					if interfere != nil {
						interfere()
					}
					return cutover.Write[map[string]string]{Entry: found("ignored", hash(n)), TTL: time.Hour}, nil
				})
			}
			require.NoError(t, set(1, nil), "of a missing key")
			assert.Equal(t, hash(1), get(t, store, "k").Value)
			require.NoError(t, set(2, nil))
			assert.Equal(t, hash(2), get(t, store, "k").Value)
			assert.False(t, get(t, store, "ignored").Found)
			for name, interfere := range map[string]func(){
				"value":   func() { client.HSet(ctx, "k", "other", "1") },
				"expiry":  func() { client.Expire(ctx, "k", time.Minute) },
				"removed": func() { client.Del(ctx, "k") },
				"created": func() { client.HSet(ctx, "k", "n", "7") },
			} {
				if name == "created" {
					client.Del(ctx, "k")
				}
				require.ErrorIs(t, set(3, interfere), cutover.ErrChanged, name)
				require.NoError(t, set(4, nil))
			}
			err := store.Update(ctx, "k", func(e cutover.Entry[map[string]string]) (cutover.Write[map[string]string], error) {
				assert.Equal(t, hash(4), e.Value)
				return cutover.Write[map[string]string]{}, assert.AnError
			})
			require.ErrorIs(t, err, assert.AnError)
		})
	}
}

func TestStore_KeepsExpiry(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"since 7.0":  nil,
		"before 7.0": {"--rename-command", "PEXPIRETIME", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := newClient(t, args...)
			store := newStore(t, client, redisstore.Strings())
			ctx := t.Context()
			at := time.Now().Add(time.Hour).Truncate(time.Millisecond)
			e := found("absolute", "v")
			e.Expires = at
			require.NoError(t, store.Write(ctx, cutover.Write[string]{Entry: e}))
			for range 100 {
				require.True(t, at.Equal(get(t, store, "absolute").Expires), "it is exact")
			}
			before := time.Now().Truncate(time.Millisecond)
			require.NoError(t, store.Write(ctx, cutover.Write[string]{Entry: e, TTL: time.Minute}))
			assert.WithinRange(t, get(t, store, "absolute").Expires, before.Add(time.Minute), time.Now().Add(time.Minute+time.Millisecond))

			require.NoError(t, store.Write(ctx, cutover.Write[string]{Entry: found("absolute", "v")}))
			assert.Zero(t, get(t, store, "absolute").Expires, "a write without an expiry removes it")
			require.NoError(t, store.Write(ctx, cutover.Write[string]{Entry: found("short", "v"), TTL: time.Nanosecond}))
			require.Eventually(t, func() bool { return !get(t, store, "short").Found }, 30*time.Second, time.Millisecond)
		})
	}
}

func TestScan_ReturnsEveryKeyThatMatches(t *testing.T) {
	t.Parallel()
	for name, connect := range both() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := connect(t)
			store := newStore(t, client, redisstore.Strings(), redisstore.Match("user:*"))
			everything := newStore(t, client, redisstore.Strings())
			ctx := t.Context()
			_, err := store.Fence(ctx, 1)
			require.NoError(t, err)
			want := make(map[string]bool)
			for i := range 500 {
				key := fmt.Sprintf("user:%d", i)
				want[key] = true
				require.NoError(t, store.Write(ctx, cutover.Write[string]{Entry: found(key, "v"), Epoch: 1, Mark: "m"}))
			}
			require.NoError(t, client.Set(ctx, "other", "v", 0).Err())
			assert.Equal(t, want, scanAll(t, store))
			want["other"] = true
			assert.Equal(t, want, scanAll(t, everything), "without the bookkeeping")
			size, err := store.Size(ctx)
			require.NoError(t, err)
			assert.GreaterOrEqual(t, size, int64(501))
			for _, cursor := range []string{"1", "a:b:c:d", "t:0:r:x"} {
				_, err := store.Scan(ctx, cursor, 1)
				require.ErrorContains(t, err, "invalid cursor", cursor)
			}
		})
	}
}

func scanAll[V any](t *testing.T, store *redisstore.Store[V]) map[string]bool {
	t.Helper()
	keys := make(map[string]bool)
	for cursor := ""; ; {
		page, err := store.Scan(t.Context(), cursor, 50)
		require.NoError(t, err)
		for _, key := range page.Keys {
			keys[key] = true
		}
		if cursor = page.Next; cursor == "" {
			return keys
		}
	}
}

func TestScan_LosesItsCursorWhenTheServerRestarts(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	client := connect(t, server.Network(), server.Address())
	store := newStore(t, client, redisstore.Strings())
	for i := range 100 {
		require.NoError(t, client.Set(t.Context(), strconv.Itoa(i), "v", 0).Err())
	}
	page, err := store.Scan(t.Context(), "", 10)
	require.NoError(t, err)
	require.NotEmpty(t, page.Next)
	require.NoError(t, server.Restart(t.Context()))
	_, err = store.Scan(t.Context(), page.Next, 10)
	require.ErrorIs(t, err, cutover.ErrCursorLost)
	assert.Len(t, scanAll(t, store), 100)
	assert.True(t, get(t, store, "7").Found, "the scripts are sent again")
	require.NoError(t, server.Restart(t.Context()))
	require.NoError(t, store.Write(t.Context(), cutover.Write[string]{Entry: found("7", "w")}))
}

// TestScan_LosesItsCursorWhenSlotsMove moves an empty slot from one server to another.
func TestScan_LosesItsCursorWhenSlotsMove(t *testing.T) {
	t.Parallel()
	client := newCluster(t)
	store := newStore(t, client, redisstore.Strings())
	ctx := t.Context()
	page, err := store.Scan(ctx, "", 10)
	require.NoError(t, err)
	require.NotEmpty(t, page.Next)
	var ids []string
	var servers []*redis.Client
	const slot = 0
	shards, err := client.ClusterShards(ctx).Result()
	require.NoError(t, err)
	for _, s := range shards {
		ids = append(ids, s.Nodes[0].ID)
		servers = append(servers, connect(t, "tcp", net.JoinHostPort(s.Nodes[0].IP, strconv.FormatInt(s.Nodes[0].Port, 10))))
	}
	from := slices.IndexFunc(shards, func(s redis.ClusterShard) bool { return s.Slots[0].Start == slot })
	to := (from + 1) % len(servers)
	require.NoError(t, servers[to].Do(ctx, "cluster", "setslot", slot, "importing", ids[from]).Err())
	require.NoError(t, servers[from].Do(ctx, "cluster", "setslot", slot, "migrating", ids[to]).Err())
	_, err = store.Scan(ctx, page.Next, 10)
	require.ErrorContains(t, err, "finish resharding")

	for _, server := range []int{to, from} {
		require.NoError(t, servers[server].Do(ctx, "cluster", "setslot", slot, "node", ids[to]).Err())
	}
	_, err = store.Scan(ctx, page.Next, 10)
	require.ErrorIs(t, err, cutover.ErrCursorLost)
}

// TestWrite_IsNotRepeated loses the reply to a write. A repetition could overwrite a later write of another process.
func TestWrite_IsNotRepeated(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	proxy := faults.NewTCPProxy(t, server.Network(), server.Address())
	direct := connect(t, server.Network(), server.Address())
	store := newStore(t, connect(t, "tcp", proxy.Address()), redisstore.Strings())
	ctx := t.Context()
	require.NoError(t, store.Write(ctx, cutover.Write[string]{Entry: found("k", "1")}))
	require.NoError(t, direct.ConfigResetStat(ctx).Err())
	proxy.ResetAfter(faults.ToClient, 0)
	require.Error(t, store.Write(ctx, cutover.Write[string]{Entry: found("k", "2"), Mark: "m"}))
	proxy.Heal()
	assert.Equal(t, found("k", "2"), get(t, store, "k"))
	stats, err := direct.Info(ctx, "commandstats").Result()
	require.NoError(t, err)
	assert.Contains(t, stats, "cmdstat_zadd:calls=1,")
}

func TestStore_DescribesKeys(t *testing.T) {
	t.Parallel()
	for name, connect := range both() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := connect(t)
			store := newStore(t, client, redisstore.Any())
			ctx := t.Context()
			require.NoError(t, client.Set(ctx, "s", strings.Repeat("x", 10_000), time.Hour).Err())
			require.NoError(t, client.RPush(ctx, "l", 1).Err())
			require.NoError(t, client.XAdd(ctx, &redis.XAddArgs{Stream: "x", Values: []string{"a", "b"}}).Err())
			described, err := store.Describe(ctx, "s", "l", "x", "missing")
			require.NoError(t, err)
			require.Len(t, described, 4)
			assert.Equal(t, "string", described[0].Type)
			assert.Greater(t, described[0].Bytes, int64(10_000))
			assert.InDelta(t, time.Hour, described[0].TTL, float64(time.Minute))
			assert.Equal(t, "list", described[1].Type)
			assert.Zero(t, described[1].TTL)
			assert.Equal(t, "stream", described[2].Type)
			assert.Equal(t, cutover.Description{Key: "missing"}, described[3])
			described, err = store.Describe(ctx)
			require.NoError(t, err)
			assert.Empty(t, described)

			_, err = store.Get(ctx, "s", "x")
			var mismatch *redisstore.TypeError
			require.ErrorAs(t, err, &mismatch)
			require.EqualError(t, mismatch, `the key is a stream, want string or hash or list or set or zset: exclude it with Match, or move it with another Kind`)
			var failed *cutover.KeyError
			require.ErrorAs(t, err, &failed)
			assert.Equal(t, "x", failed.Key)
			entries, err := store.Get(ctx)
			require.NoError(t, err)
			assert.Empty(t, entries)
		})
	}
}

func TestCheck_RefusesUnsuitableServers(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	client := newClient(t, "--maxmemory-policy", "allkeys-lru")
	_, err := newStore(t, client, redisstore.Strings()).Fence(ctx, 1)
	require.ErrorContains(t, err, "maxmemory-policy is allkeys-lru")
	require.NoError(t, client.ConfigSet(ctx, "maxmemory-policy", "volatile-lru").Err())
	_, err = newStore(t, client, redisstore.Strings()).Fence(ctx, 1)
	require.NoError(t, err)

	require.NoError(t, client.ReplicaOf(ctx, "127.0.0.1", "1").Err())
	require.ErrorContains(t, newStore(t, client, redisstore.Strings()).Check(ctx), "is a replica")

	cluster := newCluster(t)
	require.NoError(t, newStore(t, cluster, redisstore.Strings()).Check(ctx))
	node := connect(t, "tcp", cluster.Options().Addrs[0])
	require.ErrorContains(t, newStore(t, node, redisstore.Strings()).Check(ctx), "use redis.NewClusterClient")
}

func TestNew_ReportsMistakes(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{})
	defer func() { _ = client.Close() }()
	for _, name := range []string{"", "a b", "{a}", strings.Repeat("a", 64)} {
		_, err := redisstore.New(client, name, redisstore.Strings())
		require.ErrorContains(t, err, "use 1 to 63 letters", name)
	}
	_, err := redisstore.New(client, "a", redisstore.Kind[string]{})
	require.ErrorContains(t, err, "use a function of this package")
	ring := redis.NewRing(&redis.RingOptions{})
	defer func() { _ = ring.Close() }()
	_, err = redisstore.New(ring, "a", redisstore.Strings())
	require.ErrorContains(t, err, "*redis.Ring")
}

func TestStore_ReportsAnUnreachableServer(t *testing.T) {
	t.Parallel()
	for name, connect := range both() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := connect(t)
			store := newStore(t, client, redisstore.Strings())
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			mark := cutover.Mark{ID: "1", Key: "k"}
			for name, call := range map[string]func() error{
				"Get":         func() error { _, err := store.Get(ctx, "k"); return err },
				"Scan":        func() error { _, err := store.Scan(ctx, "", 1); return err },
				"Size":        func() error { _, err := store.Size(ctx); return err },
				"Write":       func() error { return store.Write(ctx, cutover.Write[string]{Entry: found("k", "v")}) },
				"Copy":        func() error { return store.Copy(ctx, cutover.Copy[string]{Entry: found("k", "v"), Version: 1}) },
				"Fence":       func() error { _, err := store.Fence(ctx, 1); return err },
				"Check":       func() error { return store.Check(ctx) },
				"Marks":       func() error { _, err := store.Marks(ctx, "", 1); return err },
				"RemoveMarks": func() error { return store.RemoveMarks(ctx, mark) },
				"CountMarks":  func() error { _, err := store.CountMarks(ctx); return err },
				"Clean":       func() error { return store.Clean(ctx) },
				"Describe":    func() error { _, err := store.Describe(ctx, "k"); return err },
				"Update": func() error {
					return store.Update(ctx, "k", func(cutover.Entry[string]) (cutover.Write[string], error) {
						return cutover.Write[string]{}, errors.New("not called")
					})
				},
			} {
				err := call()
				require.ErrorContains(t, err, "redisstore: ", name)
				require.ErrorIs(t, err, context.Canceled, name)
			}
		})
	}
}

func TestKinds_KeepValues(t *testing.T) {
	t.Parallel()
	client := newClient(t)
	big := make(map[string]string)
	scores := make(map[string]float64)
	var list []string
	for i := range 2500 { // more than one command's arguments
		big[fmt.Sprint("field ", i)] = strconv.Itoa(i)
		scores[fmt.Sprint("member ", i)] = float64(i) / 3
		list = append(list, strconv.Itoa(2500-i))
	}
	keep(t, client, redisstore.Strings(), "", "text", "äöü")
	keep(t, client, redisstore.Bytes(), []byte{}, []byte{0, 0xff, '\r', '\n'})
	type user struct{ Name string }
	keep(t, client, redisstore.JSON[user](), user{"Ada"})
	keep(t, client, redisstore.Hashes(), map[string]string{"f": "v", "": ""}, big)
	keep(t, client, redisstore.Lists(), []string{"b", "a", "b"}, list)
	keep(t, client, redisstore.Sets(), []string{"a", "b"}, slices.Sorted(maps.Keys(big)))
	keep(t, client, redisstore.SortedSets(), map[string]float64{"a": 0.1, "b": -1e300, "c": 17}, scores)
	keep(t, client, redisstore.Any(),
		redisstore.Value{Type: redisstore.TypeString, String: []byte{0xff}},
		redisstore.Value{Type: redisstore.TypeHash, Hash: big},
		redisstore.Value{Type: redisstore.TypeList, List: []string{"\x00", "a"}},
		redisstore.Value{Type: redisstore.TypeSet, Set: []string{"a", "b"}},
		redisstore.Value{Type: redisstore.TypeSortedSet, SortedSet: map[string]float64{"a": math.Inf(1), "b": math.Inf(-1)}},
	)
}

// keep writes values to the same key, whose type changes, and reads them.
func keep[V any](t *testing.T, client redis.UniversalClient, kind redisstore.Kind[V], values ...V) {
	t.Helper()
	store := newStore(t, client, kind)
	for _, value := range values {
		require.NoError(t, store.Write(t.Context(), cutover.Write[V]{Entry: found("key", value)}))
		assert.Equal(t, found("key", value), get(t, store, "key"))
	}
}

func TestKinds_RefuseWhatTheyCanNotKeep(t *testing.T) {
	t.Parallel()
	client := newClient(t)
	ctx := t.Context()
	refuse(t, client, redisstore.Hashes(), map[string]string{}, "an empty hash does not exist in Redis: delete the key")
	refuse(t, client, redisstore.Lists(), nil, "an empty list")
	refuse(t, client, redisstore.Sets(), nil, "an empty set")
	refuse(t, client, redisstore.SortedSets(), nil, "an empty zset")
	refuse(t, client, redisstore.Strings(), "\x00", "use Bytes or Any")
	refuse(t, client, redisstore.Hashes(), map[string]string{"f": "\xff"}, "use Bytes or Any")
	refuse(t, client, redisstore.SortedSets(), map[string]float64{"a": math.Inf(1)}, `the score of "a" is +inf: use Any`)
	refuse(t, client, redisstore.JSON[func()](), nil, "unsupported type")

	require.NoError(t, client.Set(ctx, "key", "{", 0).Err())
	_, err := newStore(t, client, redisstore.JSON[int]()).Get(ctx, "key")
	require.ErrorAs(t, err, new(*cutover.KeyError))
	require.NoError(t, client.Set(ctx, "key", "\xff", 0).Err())
	_, err = newStore(t, client, redisstore.Strings()).Get(ctx, "key")
	require.ErrorContains(t, err, "use Bytes or Any")
	_, err = newStore(t, client, redisstore.Sets()).Get(ctx, "key")
	require.ErrorContains(t, err, `the key is a string, want set`)
}

func refuse[V any](t *testing.T, client redis.UniversalClient, kind redisstore.Kind[V], value V, message string) {
	t.Helper()
	err := newStore(t, client, kind).Write(t.Context(), cutover.Write[V]{Entry: found("key", value)})
	require.ErrorAs(t, err, new(*cutover.KeyError))
	require.ErrorContains(t, err, message)
}

// TestCutover_MovesACluster takes a cutover through all phases, and back from PrimaryNew, with writes in every phase.
func TestCutover_MovesACluster(t *testing.T) {
	t.Parallel()
	client := newCluster(t)
	ctx := t.Context()
	separate := redis.NewClusterClient(client.Options())                        // the member closes it
	m, err := newMember(ctx, separate, fxtest.URL(t), time.Second, time.Minute) // a slow machine takes long for 16,384 slots
	require.NoError(t, err)
	defer m.close()
	want := make(map[string]string)
	for i := range 200 {
		key := fmt.Sprint("before:", i)
		want[key] = "v"
		require.NoError(t, client.Set(ctx, key, "v", 0).Err())
	}
	require.NoError(t, m.mover.Start(ctx))
	rolledBack := false
	for {
		status, err := m.mover.Status(ctx)
		require.NoError(t, err)
		for i := range 5 {
			key, phase := fmt.Sprint(status.Phase, ":", i), status.Phase.String()
			require.NoError(t, m.mover.Store().Set(ctx, key, phase, 0))
			require.NoError(t, m.mover.Store().Set(ctx, fmt.Sprint("before:", i), phase, 0))
			want[key], want[fmt.Sprint("before:", i)] = phase, phase
		}
		if status.Phase == cutover.Done {
			break
		}
		if status.Phase == cutover.PrimaryNew && !rolledBack {
			rolledBack = true
			_, err := m.mover.Rollback(ctx, cutover.ReadNew)
			require.NoError(t, err)
			for key, value := range want {
				entries, err := m.source.Get(ctx, key)
				require.NoError(t, err)
				require.Equal(t, value, entries[0].Value, key)
			}
			continue
		}
		require.NoError(t, m.finishStep(ctx, status, false))
	}
	require.NoError(t, m.mover.Clean(ctx))
	for key, value := range want {
		entries, err := m.target.Get(ctx, key)
		require.NoError(t, err)
		assert.Equal(t, value, entries[0].Value, key)
	}
}

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rdsfx-go/rdsfx/repo/cutover"
	"github.com/rdsfx-go/rdsfx/repo/cutover/redisstore"
)

// kinds are the prefixes of the keys. Each has another type of Redis.
var kinds = []string{"user", "cart", "queue", "tags", "board", "session"}

func keyOf(i int) string { return kinds[i%len(kinds)] + ":" + strconv.Itoa(i) }

// valueOf returns a value for the key. The number differs for each write.
func valueOf(i, number int) redisstore.Value {
	text := strconv.Itoa(number)
	switch kinds[i%len(kinds)] {
	case "cart":
		return redisstore.Value{Type: redisstore.TypeHash, Hash: map[string]string{"article": text, "pieces": "2"}}
	case "queue":
		return redisstore.Value{Type: redisstore.TypeList, List: []string{"first", text}}
	case "tags":
		return redisstore.Value{Type: redisstore.TypeSet, Set: []string{text, "tag"}}
	case "board":
		return redisstore.Value{Type: redisstore.TypeSortedSet, SortedSet: map[string]float64{"ada": float64(number), "bob": 1.5}}
	}
	return redisstore.Value{Type: redisstore.TypeString, String: []byte(`{"number": ` + text + `}`)}
}

// fill writes keys as an application does that does not know of the cutover yet.
func fill(ctx context.Context, client *redis.Client, keys int) error {
	const batch = 1000
	for from := 0; from < keys; from += batch {
		pipeline := client.Pipeline()
		for i := from; i < min(from+batch, keys); i++ {
			key, value := keyOf(i), valueOf(i, 0)
			switch value.Type {
			case redisstore.TypeHash:
				pipeline.HSet(ctx, key, value.Hash)
			case redisstore.TypeList:
				pipeline.RPush(ctx, key, value.List)
			case redisstore.TypeSet:
				pipeline.SAdd(ctx, key, value.Set)
			case redisstore.TypeSortedSet:
				pipeline.ZAdd(ctx, key, redis.Z{Member: "ada"}, redis.Z{Member: "bob", Score: 1.5})
			case redisstore.TypeString:
				pipeline.Set(ctx, key, value.String, ttlOf(key))
			}
		}
		if _, err := pipeline.Exec(ctx); err != nil {
			return fmt.Errorf("fill Redis: %w", err)
		}
	}
	return nil
}

// ttlOf returns the time to live of a key, 0 for none.
func ttlOf(key string) time.Duration {
	if key[:4] == "sess" {
		return time.Hour
	}
	return 0
}

// traffic is the application: goroutines that write and read. Each writes its own keys, so the last acknowledged write of a key is
// known.
type traffic struct {
	store   *cutover.Store[redisstore.Value]
	end     context.CancelFunc
	running sync.WaitGroup

	writes, reads, errors atomic.Int64

	mu    sync.Mutex
	books map[string]*redisstore.Value // acknowledged values, nil for deleted keys
}

func startTraffic(ctx context.Context, store *cutover.Store[redisstore.Value], o options) *traffic {
	ctx, end := context.WithCancel(ctx)
	t := &traffic{store: store, end: end, books: make(map[string]*redisstore.Value)}
	for worker := range o.workers {
		t.running.Go(func() {
			for number := 1; ctx.Err() == nil; number++ {
				i := rand.IntN(o.keys/o.workers)*o.workers + worker
				t.work(ctx, i, number)
				select {
				case <-time.After(time.Millisecond): // a store that is always busy would only show its limits
				case <-ctx.Done():
				}
			}
		})
	}
	return t
}

// work writes or deletes a key and reads some others.
func (t *traffic) work(ctx context.Context, i, number int) {
	key := keyOf(i)
	var value *redisstore.Value
	var err error
	if number%10 == 0 {
		err = t.store.Delete(ctx, key)
	} else {
		v := valueOf(i, number)
		value = &v
		err = t.store.Set(ctx, key, v, ttlOf(key))
	}
	t.mu.Lock()
	if err == nil {
		t.books[key] = value
		t.writes.Add(1)
	} else {
		delete(t.books, key) // it may have been written or not
		if ctx.Err() == nil {
			t.errors.Add(1)
		}
	}
	t.mu.Unlock()
	for range 4 {
		if _, _, err := t.store.Get(ctx, keyOf(rand.IntN(i+1))); err == nil {
			t.reads.Add(1)
		} else if ctx.Err() == nil {
			t.errors.Add(1)
		}
	}
}

// stop may be called again.
func (t *traffic) stop() {
	t.end()
	t.running.Wait()
}

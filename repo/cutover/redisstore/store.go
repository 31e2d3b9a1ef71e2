package redisstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rdsfx-go/rdsfx/repo/cutover"
)

// Store reads and writes the keys of an application in Redis for a cutover. It implements [cutover.Old] and its optional interfaces.
//
// The methods may be called concurrently. They use masters only, never replicas. The client's own retries do not apply to writes, because
// a repeated write could overwrite a later one.
type Store[V any] struct {
	client redis.UniversalClient
	kind   Kind[V]
	prefix string // of the names of bookkeeping keys
	match  string
	// cluster is set if the client is one of a cluster. Bookkeeping keys then exist once for each hash slot.
	cluster bool
}

var (
	_ cutover.Old[int]        = (*Store[int])(nil)
	_ cutover.OldUpdater[int] = (*Store[int])(nil)
	_ cutover.OldCleaner      = (*Store[int])(nil)
	_ cutover.OldDescriber    = (*Store[int])(nil)
)

// bookkeeping is the prefix of all keys that are not the application's.
const bookkeeping = "rdsfx:cutover:"

// Option changes a [Store].
type Option func(*options)

type options struct{ match string }

// Match restricts scans to keys that match a pattern of the command KEYS, such as "user:*". The default is all keys, without the
// bookkeeping. Give each [Store] of a Redis its own pattern.
func Match(pattern string) Option { return func(o *options) { o.match = pattern } }

var namePattern = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,63}$`)

// New returns a Store. client is the application's *redis.Client or *redis.ClusterClient; set its ContextTimeoutEnabled, or calls may
// outlast their ctx. name is that of the cutover; the names of bookkeeping keys begin with rdsfx:cutover:NAME.
func New[V any](client redis.UniversalClient, name string, kind Kind[V], opts ...Option) (*Store[V], error) {
	if !namePattern.MatchString(name) {
		return nil, fmt.Errorf("redisstore: name %q: use 1 to 63 letters, digits and characters of _.-", name)
	}
	if kind.decode == nil || kind.encode == nil {
		return nil, errors.New("redisstore: kind: use a function of this package, such as JSON")
	}
	o := options{match: "*"}
	for _, opt := range opts {
		opt(&o)
	}
	s := &Store[V]{client: client, kind: kind, prefix: bookkeeping + name + ":", match: o.match}
	switch client.(type) {
	case *redis.Client:
	case *redis.ClusterClient:
		s.cluster = true
	default:
		return nil, fmt.Errorf("redisstore: client: want a *redis.Client or *redis.ClusterClient, got %T", client)
	}
	return s, nil
}

// Get returns the state of each key. Keys of other types than those of the Kind are an error, a [*TypeError].
func (s *Store[V]) Get(ctx context.Context, keys ...string) ([]cutover.Entry[V], error) {
	states, err := read(ctx, s.client, keys)
	if err != nil {
		return nil, err
	}
	entries := make([]cutover.Entry[V], len(keys))
	for i, state := range states {
		if entries[i], err = s.entry(keys[i], state); err != nil {
			return nil, err
		}
	}
	return entries, nil
}

func (s *Store[V]) entry(key string, st state) (e cutover.Entry[V], err error) {
	e.Key = key
	if !st.found {
		return e, nil
	}
	e.Found, e.Expires = true, st.expires
	e.Value, err = s.kind.fromRedis(key, st.value)
	return e, err
}

// Scan returns a page of the keys that match. If the server was restarted, or slots of a cluster have moved, since the cursor was
// returned, the error is [cutover.ErrCursorLost].
func (s *Store[V]) Scan(ctx context.Context, cursor string, count int) (cutover.KeyPage, error) {
	keys, next, err := scan(ctx, s.client, cursor, s.match, count)
	if err != nil {
		return cutover.KeyPage{}, err
	}
	keys = slices.DeleteFunc(keys, func(key string) bool { return strings.HasPrefix(key, bookkeeping) })
	return cutover.KeyPage{Keys: keys, Next: next}, nil
}

// Size returns the number of all keys, also of those that do not match.
func (s *Store[V]) Size(ctx context.Context) (int64, error) {
	size, err := s.client.DBSize(ctx).Result() // in a cluster, the sum of all masters
	if err != nil {
		return 0, fmt.Errorf("redisstore: size: %w", err)
	}
	return size, nil
}

// Write stores a value with its mark if the fence has the epoch of the write.
func (s *Store[V]) Write(ctx context.Context, w cutover.Write[V]) error {
	return s.write(ctx, w.Entry, request{epoch: w.Epoch, mark: w.Mark, ttl: w.TTL})
}

// Copy stores a value of PostgreSQL if the fence has its epoch, and if Redis has no version of the key that is as new.
func (s *Store[V]) Copy(ctx context.Context, c cutover.Copy[V]) error {
	return s.write(ctx, c.Entry, request{epoch: c.Epoch, version: c.Version})
}

// Update writes the result of fn if the key has not changed since fn was called with its state, else it returns [cutover.ErrChanged].
func (s *Store[V]) Update(ctx context.Context, key string, fn func(cutover.Entry[V]) (cutover.Write[V], error)) error {
	states, err := read(ctx, s.client, []string{key}, withDigest)
	if err != nil {
		return err
	}
	present, err := s.entry(key, states[0])
	if err != nil {
		return err
	}
	w, err := fn(present)
	if err != nil {
		return err
	}
	w.Key = key
	return s.write(ctx, w.Entry, request{epoch: w.Epoch, mark: w.Mark, ttl: w.TTL, unchanged: states[0].digest})
}

// request is what a write has besides the entry. Zero values disable a part.
type request struct {
	epoch, version int64
	mark           string
	ttl            time.Duration
	unchanged      string // digest of the state that must be present
}

func (s *Store[V]) write(ctx context.Context, e cutover.Entry[V], r request) error {
	kind, elements := "none", []any(nil)
	if e.Found {
		v, err := s.kind.toRedis(e.Key, e.Value)
		if err != nil {
			return err
		}
		kind, elements = string(v.Type), v.elements()
	}
	expire, ms := "", int64(0)
	switch {
	case !e.Found:
	case r.ttl > 0:
		expire, ms = "PX", max(1, r.ttl.Milliseconds())
	case !e.Expires.IsZero():
		expire, ms = "PXAT", e.Expires.UnixMilli()
	}
	version, mark := "", ""
	if r.version != 0 {
		version = strconv.FormatInt(r.version, 10)
	}
	if r.mark != "" {
		mark = markMember(cutover.Mark{ID: r.mark, Key: e.Key})
	}
	names := s.namesOf(s.partOf(e.Key))
	args := append([]any{strconv.FormatInt(r.epoch, 10), mark, version, r.unchanged, expire, ms, kind}, elements...)
	result, err := runOnce(ctx, s.client, []string{e.Key, names.fence, names.marks, names.versions}, args)
	if err != nil {
		return fmt.Errorf("redisstore: write: %w", err)
	}
	switch result {
	case resultFenced:
		return cutover.ErrFenced
	case resultChanged:
		return cutover.ErrChanged
	}
	return nil
}

// once is a command that the client does not repeat after a lost connection: it may have been applied.
type once struct{ *redis.Cmd }

// NoRetry returns true.
func (once) NoRetry() bool { return true }

// runOnce runs the script that writes. If the server does not know it, nothing was applied, so it is sent again with its text.
func runOnce(ctx context.Context, client redis.UniversalClient, keys []string, args []any) (int64, error) {
	run := func(command, script string) (int64, error) {
		all := []any{command, script, len(keys)}
		for _, key := range keys {
			all = append(all, key)
		}
		cmd := once{redis.NewCmd(ctx, append(all, args...)...)}
		cmd.SetFirstKeyPos(3)
		_ = client.Process(ctx, cmd) // cmd has the error
		return cmd.Int64()
	}
	result, err := run("evalsha", writeScript.Hash())
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		result, err = run("eval", writeScriptText)
	}
	return result, err
}

// Describe returns type, memory and time to live of keys.
func (s *Store[V]) Describe(ctx context.Context, keys ...string) ([]cutover.Description, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	pipeline := s.client.Pipeline()
	types, sizes, ttls := make([]*redis.StatusCmd, len(keys)), make([]*redis.IntCmd, len(keys)), make([]*redis.DurationCmd, len(keys))
	for i, key := range keys {
		types[i], sizes[i], ttls[i] = pipeline.Type(ctx, key), pipeline.MemoryUsage(ctx, key), pipeline.PTTL(ctx, key)
	}
	if _, err := pipeline.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("redisstore: describe keys: %w", err)
	}
	described := make([]cutover.Description, len(keys))
	for i, key := range keys {
		described[i] = cutover.Description{Key: key, Bytes: sizes[i].Val(), TTL: max(0, ttls[i].Val())} // negative: no expiry, or absent
		if kind := types[i].Val(); kind != "none" {
			described[i].Type = kind
		}
	}
	return described, nil
}

// Canonical returns the JSON of a value as Redis would return it: sets are sorted and have no duplicates. Use it as
// cutover.Config.Canonical.
func (s *Store[V]) Canonical(value V) ([]byte, error) {
	v, err := s.kind.encode(value)
	if err != nil {
		return nil, fmt.Errorf("redisstore: canonical form: %w", err)
	}
	return json.Marshal(v)
}

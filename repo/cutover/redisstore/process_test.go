package redisstore_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rdsfx-go/rdsfx"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/repo/cutover"
	"github.com/rdsfx-go/rdsfx/repo/cutover/redisstore"
)

// jobEnv makes the test binary one of the processes of a cutover. Its value is a job.
const jobEnv = "RDSFX_REDIS_JOB"

const (
	roleWriter   = "writer"
	roleOperator = "operator"
)

// job is what a process has to do.
type job struct {
	Role     string `json:"role"`
	Redis    string `json:"redis"`
	Postgres string `json:"postgres"`
	Seed     uint64 `json:"seed"`
}

const counterKey = "counter"

// keys returns all keys of the model.
func keys() []string { return []string{"k:0", "k:1", "k:2", "k:3", "k:4", counterKey} }

var errMismatch = errors.New("the sides differ")

// runJob works until the process is killed or its parent has ended.
func runJob(text string) {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	ctx := context.Background()
	for {
		m, err := openMember(ctx, j)
		if err == nil {
			m.work(ctx, j)
		}
		<-time.After(20 * time.Millisecond) // a server is away
	}
}

// member is a process that takes part in the cutover.
type member struct {
	client   redis.UniversalClient
	database *rdsfx.Database
	source   *redisstore.Store[string]
	target   cutover.New[string]
	mover    *cutover.Mover[string]

	output sync.Mutex
	writes atomic.Int64
}

// item is the row of a key.
type item struct {
	Key     string     `db:"key,pk"`
	Value   string     `db:"value"`
	Expires *time.Time `db:"expires"`
}

func openMember(ctx context.Context, j job) (*member, error) {
	options, err := redis.ParseURL(j.Redis)
	if err != nil {
		return nil, err
	}
	options.ContextTimeoutEnabled, options.DialTimeout, options.ReadTimeout = true, time.Second, 2*time.Second
	return newMember(ctx, redis.NewClient(options), j.Postgres, 50*time.Millisecond, time.Second)
}

// newMember owns the client. repair and hold are those of [cutover.Config].
func newMember(ctx context.Context, client redis.UniversalClient, postgresURL string, repair, hold time.Duration) (_ *member, err error) {
	m := &member{client: client}
	defer func() {
		if err != nil {
			m.close()
		}
	}()
	if m.source, err = redisstore.New(m.client, "test", redisstore.Strings()); err != nil {
		return nil, err
	}
	m.database, err = rdsfx.Open(pgfx.Config{URL: postgresURL, Pool: pgfx.PoolConfig{MaxConns: 10}}, rdsfx.WithPool(pgfx.WithSetup(
		pgfx.SetupSQL("items", "create table if not exists items (key text primary key, value text not null, expires timestamptz)"),
		cutover.Setup())))
	if err != nil {
		return nil, err
	}
	startCtx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := m.database.Start(startCtx); err != nil {
		return nil, err
	}
	rows, err := repo.New[item, string](m.database.Tx, "items")
	if err != nil {
		return nil, err
	}
	m.target, err = cutover.FromRepository(rows, cutover.Mapping[string, item, string]{
		Key: func(key string) (string, error) { return key, nil },
		Row: func(e cutover.Entry[string]) (item, error) {
			row := item{Key: e.Key, Value: e.Value}
			if !e.Expires.IsZero() {
				row.Expires = &e.Expires
			}
			return row, nil
		},
		Entry: func(row *item) (cutover.Entry[string], error) {
			e := cutover.Entry[string]{Key: row.Key, Value: row.Value}
			if row.Expires != nil {
				e.Expires = *row.Expires
			}
			return e, nil
		},
		KeyColumn: "key", ExpiresColumn: "expires",
	})
	if err != nil {
		return nil, err
	}
	m.mover, err = cutover.NewMover(m.database.Tx, "test", cutover.Old[string](m.source), m.target, cutover.Config[string]{
		Poll: 50 * time.Millisecond, Lease: time.Second, Hold: hold, CopyTimeout: 500 * time.Millisecond,
		Repair: repair, RepairBatch: 3, Sweep: 100 * time.Millisecond, Gates: cutover.Gates{Window: time.Millisecond},
		Canonical: m.source.Canonical,
	})
	return m, err
}

func (m *member) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if m.mover != nil {
		_ = m.mover.Stop(ctx)
	}
	if m.database != nil {
		_ = m.database.Close(ctx)
	}
	_ = m.client.Close()
}

func (m *member) work(ctx context.Context, j job) {
	rng := rand.New(rand.NewPCG(j.Seed, 1))
	if j.Role == roleOperator {
		for {
			m.operate(ctx, rng)
		}
	}
	if err := m.mover.Start(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	var writers sync.WaitGroup
	for i := range 3 {
		rng := rand.New(rand.NewPCG(j.Seed, uint64(10+i)))
		writers.Go(func() {
			for {
				m.operation(ctx, rng, j.Seed)
			}
		})
	}
	writers.Wait()
}

// operate does one thing that an operator may do. It leaves the last step to the test.
func (m *member) operate(ctx context.Context, rng *rand.Rand) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	status, err := m.mover.Status(ctx)
	if err != nil {
		return
	}
	switch n := rng.IntN(10); {
	case n == 0:
		_, _ = m.mover.Rollback(ctx, cutover.Phase(rng.IntN(int(status.Phase)+1)))
	case n == 1:
		_, _ = m.mover.Repair(ctx)
	case n == 2:
		_, _ = m.mover.Verify(ctx, cutover.VerifyOptions{})
	case n < 6 && status.Phase == cutover.Backfill:
		_, _ = m.mover.Backfill(ctx, cutover.BackfillOptions{Batch: 2, Restart: n == 5})
	case status.Phase != cutover.PrimaryNew:
		_, _ = m.mover.Advance(ctx, cutover.AdvanceOptions{Force: true, ShadowPercent: 50})
	}
}

// operation writes or reads a key, and prints what it does before and after.
func (m *member) operation(ctx context.Context, rng *rand.Rand, seed uint64) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(100+rng.IntN(1500))*time.Millisecond)
	defer cancel()
	store, all := m.mover.Store(), keys()
	key := all[rng.IntN(len(all))]
	if rng.IntN(3) == 0 {
		begin := time.Now().UnixNano()
		if value, _, err := store.Get(ctx, key); err == nil {
			m.print(record{Key: key, Value: value, Begin: begin, End: time.Now().UnixNano()})
		}
		return
	}
	number := m.writes.Add(1)
	w := record{Write: number, Key: key, Value: fmt.Sprint(seed, "-", number), Begin: time.Now().UnixNano()}
	run := func() error { return store.Set(ctx, key, w.Value, 0) }
	switch {
	case key == counterKey:
		run = func() error {
			return store.Update(ctx, key, func(e cutover.Entry[string]) (cutover.Entry[string], error) {
				count, _ := strconv.Atoi(e.Value)
				return cutover.Entry[string]{Found: true, Value: strconv.Itoa(count + 1)}, nil
			})
		}
	case rng.IntN(4) == 0:
		w.Value = ""
		run = func() error { return store.Delete(ctx, key) }
	}
	m.print(w)
	err := run()
	w.End, w.Outcome = time.Now().UnixNano(), outcomeOf(err)
	m.print(w)
}

func outcomeOf(err error) string {
	var unsynced *cutover.UnsyncedError
	switch {
	case err == nil:
		return acknowledged
	case errors.As(err, &unsynced):
		return durable
	case errors.Is(err, cutover.ErrHeld), errors.Is(err, cutover.ErrStateUnknown), errors.Is(err, cutover.ErrNotStarted):
		return refused
	}
	return unknown
}

// print writes a line at once, so it survives the process.
func (m *member) print(r record) {
	line, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	m.output.Lock()
	defer m.output.Unlock()
	_, _ = os.Stdout.Write(append(line, '\n'))
}

package growth

import (
	"context"
	"fmt"
	"net/url"
	"runtime"
	"runtime/metrics"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rdsfx-go/rdsfx/benchmarks/contest"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// Point is the measured value for one size.
type Point struct {
	N     int
	Value float64
}

// Line holds the points of one contender.
type Line struct {
	Name   string
	Points []Point
}

// Chart is a chart with its data.
type Chart struct {
	File, Title, X, Y string
	Lines             []Line
}

func (c *Chart) add(line string, n int, value float64) {
	i := slices.IndexFunc(c.Lines, func(l Line) bool { return l.Name == line })
	if i < 0 {
		c.Lines = append(c.Lines, Line{Name: line})
		i = len(c.Lines) - 1
	}
	c.Lines[i].Points = append(c.Lines[i].Points, Point{n, value})
}

// poolSize is the number of connections.
const poolSize = 8

// open returns the library's pool and a plain pool.
func open(ctx context.Context, address string) (db *pgfx.DB, plain *pgxpool.Pool, closeAll func(), err error) {
	if db, err = pgfx.Open(pgfx.Config{URL: address, Pool: pgfx.PoolConfig{MaxConns: poolSize}}); err != nil {
		return nil, nil, nil, err
	}
	closeAll = func() { _ = db.Close(context.Background()) }
	if err = db.Start(ctx); err != nil {
		closeAll()
		return nil, nil, nil, err
	}
	u, err := url.Parse(address)
	if err == nil {
		query := u.Query()
		query.Set("pool_max_conns", strconv.Itoa(poolSize))
		u.RawQuery = query.Encode()
		plain, err = pgxpool.New(ctx, u.String())
	}
	if err != nil {
		closeAll()
		return nil, nil, nil, err
	}
	closeDB := closeAll
	return db, plain, func() {
		plain.Close()
		closeDB()
	}, nil
}

// Rows imports and reads tables of up to most rows. It returns the time per row and the largest heap size. It calls progress
// before each step.
func Rows(ctx context.Context, address string, most int, progress func(what string, n int)) (cost, memory Chart, err error) {
	t := table{progress: progress}
	t.cost = Chart{File: "growth-rows.svg", Title: "Time for a row", X: "rows", Y: "µs"}
	t.memory = Chart{File: "growth-memory.svg", Title: "Largest heap size of the process", X: "rows", Y: "MB"}
	var closeAll func()
	if t.db, _, closeAll, err = open(ctx, address); err != nil {
		return cost, memory, err
	}
	defer closeAll()
	manager, err := txn.NewManager(t.db)
	if err != nil {
		return cost, memory, err
	}
	defer func() { _ = manager.Close(context.Background()) }()
	if t.items, err = repo.New[contest.Item, uuid.UUID](manager, "items"); err != nil {
		return cost, memory, err
	}
	for n := 1; n <= most && err == nil; n *= 10 {
		err = t.grow(ctx, n)
	}
	return t.cost, t.memory, err
}

// table is the state of Rows.
type table struct {
	db           *pgfx.DB
	items        *repo.Repository[contest.Item, uuid.UUID]
	cost, memory Chart
	progress     func(what string, n int)
}

// grow measures n rows.
func (t *table) grow(ctx context.Context, n int) error {
	fill := func() error {
		if n >= 1000 { // with few rows, emptying the table would dominate
			if err := t.empty(ctx); err != nil {
				return err
			}
		}
		_, err := t.items.Import(ctx, rows(n))
		return err
	}
	if err := t.record("Import", n, fill); err != nil {
		return err
	}
	if err := t.empty(ctx); err != nil {
		return err
	}
	if _, err := t.items.Import(ctx, rows(n)); err != nil {
		return err
	}
	return t.record("All", n, func() error {
		read := 0
		for _, err := range t.items.All(ctx) {
			if err != nil {
				return err
			}
			read++
		}
		if read != n {
			return fmt.Errorf("%d rows of %d", read, n)
		}
		return nil
	})
}

func (t *table) empty(ctx context.Context) error {
	_, err := t.db.Pool().Exec(ctx, "truncate items")
	return err
}

// record measures fn, which handles n rows, three times and stores the medians. With fewer than 1,000 rows it repeats fn, so that
// each measurement takes long enough.
func (t *table) record(name string, n int, fn func() error) error {
	t.progress(name, n)
	times := max(1, 1000/n)
	var took, peaks [3]float64
	for round := range took {
		stop, began := watchHeap(), time.Now()
		var err error
		for i := 0; i < times && err == nil; i++ {
			err = fn()
		}
		took[round] = float64(time.Since(began).Microseconds()) / float64(n*times)
		peaks[round] = float64(stop()) / 1e6
		if err != nil {
			return err
		}
	}
	slices.Sort(took[:])
	slices.Sort(peaks[:])
	t.cost.add(name, n, took[1])
	t.memory.add(name, n, peaks[1])
	return nil
}

// rows returns an iterator over n rows without keys.
func rows(n int) func(yield func(contest.Item, error) bool) {
	row := contest.Row(1)
	row.ID = uuid.Nil
	return func(yield func(contest.Item, error) bool) {
		for i := range n {
			row.Quantity = int32(i)
			if !yield(row, nil) {
				return
			}
		}
	}
}

// watchHeap samples the heap size, including garbage, until stop is called. stop returns the largest sample.
func watchHeap() (stop func() uint64) {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	read := func() uint64 {
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	runtime.GC() //nolint:revive // excludes earlier garbage
	most, done, ended := read(), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(time.Millisecond)
		defer ticker.Stop()
		for {
			most = max(most, read())
			select {
			case <-done:
				return
			case <-ticker.C:
			}
		}
	}()
	return func() uint64 {
		close(done)
		<-ended
		return most
	}
}

// Statements runs up to most distinct statements in turn and returns the time per statement.
func Statements(ctx context.Context, address string, most int, progress func(what string, n int)) (Chart, error) {
	chart := Chart{File: "growth-statements.svg", Title: "Time for a statement", X: "distinct statements", Y: "µs"}
	db, plain, closeAll, err := open(ctx, address)
	if err != nil {
		return chart, err
	}
	defer closeAll()
	statements := make([]string, most)
	for i := range statements {
		statements[i] = fmt.Sprintf("select $1::bigint as answer_%d", i)
	}
	contenders := []struct {
		name string
		pool *pgxpool.Pool
	}{{"rdsfx", db.Pool()}, {"pgxpool", plain}}
	const block = 100
	for n := 1; n <= most; n *= 10 {
		progress("statements", n)
		var took [2][]float64
		for done := 0; done < max(2*n, 3000); done += block { // in turn, under the same conditions
			for which, contender := range contenders {
				began := time.Now()
				for i := range block {
					var answer int64
					if err := contender.pool.QueryRow(ctx, statements[(done+i)%n], i).Scan(&answer); err != nil {
						return chart, err
					}
				}
				took[which] = append(took[which], float64(time.Since(began).Nanoseconds())/1e3/block)
			}
		}
		for which, contender := range contenders {
			slices.Sort(took[which])
			chart.add(contender.name, n, took[which][len(took[which])/2])
		}
	}
	return chart, nil
}

// Acquire runs statements from a growing number of goroutines on a pool of eight connections. It returns the wait times for a
// connection.
func Acquire(ctx context.Context, address string, goroutines []int, progress func(what string, n int)) (Chart, error) {
	chart := Chart{File: "growth-acquire.svg", Title: "Wait for one of 8 connections", X: "goroutines", Y: "µs"}
	db, plain, closeAll, err := open(ctx, address)
	if err != nil {
		return chart, err
	}
	defer closeAll()
	for _, n := range goroutines {
		progress("goroutines", n)
		waits := map[string][]float64{}
		for range 9 {
			for _, contender := range []struct {
				name string
				pool *pgxpool.Pool
			}{{"rdsfx", db.Pool()}, {"pgxpool", plain}} {
				found, err := acquireConcurrently(ctx, contender.pool, n)
				if err != nil {
					return chart, err
				}
				waits[contender.name] = append(waits[contender.name], found...)
			}
		}
		for _, name := range []string{"rdsfx", "pgxpool"} {
			slices.Sort(waits[name])
			chart.add(name+", median", n, waits[name][len(waits[name])/2])
			chart.add(name+", 99 %", n, waits[name][len(waits[name])*99/100])
		}
	}
	return chart, nil
}

// acquireConcurrently acquires connections from n goroutines and returns the waits in microseconds.
func acquireConcurrently(ctx context.Context, pool *pgxpool.Pool, n int) ([]float64, error) {
	each := max(10, 3000/n)
	waits, failures := make([][]float64, n), make([]error, n)
	var wg sync.WaitGroup
	for g := range n {
		wg.Go(func() {
			for range each {
				began := time.Now()
				conn, err := pool.Acquire(ctx)
				if err != nil {
					failures[g] = err
					return
				}
				waits[g] = append(waits[g], float64(time.Since(began).Nanoseconds())/1e3)
				_, err = conn.Exec(ctx, "select 1")
				conn.Release()
				if err != nil {
					failures[g] = err
					return
				}
			}
		})
	}
	wg.Wait()
	for _, err := range failures {
		if err != nil {
			return nil, err
		}
	}
	return slices.Concat(waits...), nil
}

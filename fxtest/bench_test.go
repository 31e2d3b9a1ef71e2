package fxtest_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/fxtest/internal/testrecorder"
)

// twentyTables is a schema of the size of a small service.
func twentyTables() fxtest.Option {
	var b strings.Builder
	for i := range 20 {
		fmt.Fprintf(&b, `create table t%d (id uuid primary key default gen_random_uuid(), parent uuid, name text not null,
			created_at timestamptz not null default now(), data jsonb); create index on t%[1]d (parent); create unique index on t%[1]d (name);`, i)
	}
	return fxtest.SQL(b.String())
}

// BenchmarkDatabase measures the cost of a test's database: cloning a template with 20 tables, and dropping the clone.
func BenchmarkDatabase(b *testing.B) {
	schema := twentyTables()
	fxtest.URL(b, schema) // start the server and build the template
	cloneAndDrop := func(b *testing.B) {
		b.Helper()
		r := testrecorder.Run(b, func(tb testing.TB) { fxtest.URL(tb, schema) })
		require.Empty(b, r.Errors())
	}
	b.Run("clone", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			r := testrecorder.New(b)
			b.StartTimer()
			fxtest.URL(r, schema)
			b.StopTimer()
			r.RunCleanups()
			b.StartTimer()
		}
	})
	b.Run("clone and drop", func(b *testing.B) {
		for b.Loop() {
			cloneAndDrop(b)
		}
	})
	b.Run("clone, 8 in parallel", func(b *testing.B) {
		b.SetParallelism(4) // times GOMAXPROCS, 8 on two cores
		var mu sync.Mutex
		var made []*testrecorder.Recorder
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				r := testrecorder.New(b)
				fxtest.URL(r, schema)
				mu.Lock()
				made = append(made, r)
				mu.Unlock()
			}
		})
		b.StopTimer()
		for _, r := range made {
			r.RunCleanups()
		}
	})
	b.Run("clone and drop, 8 in parallel", func(b *testing.B) {
		b.SetParallelism(4)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				cloneAndDrop(b)
			}
		})
	})
	b.Run("transaction", func(b *testing.B) {
		for b.Loop() {
			r := testrecorder.Run(b, func(tb testing.TB) { fxtest.Tx(tb, schema) })
			require.Empty(b, r.Errors())
		}
	})
}

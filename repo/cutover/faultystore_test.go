package cutover_test

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/rdsfx-go/rdsfx/repo/cutover"
)

// errKilled is what a process gets that was killed: it reaches no store any more.
var errKilled = errors.New("killed")

// crossing is a function that is called before and after each call of a store. It may stall the process, or return an error, which
// the process gets instead of the result.
type crossing func(ctx context.Context, point string) error

// faultyOld is an old store whose calls cross points. The calls themselves are real.
type faultyOld struct {
	*oldStore

	cross atomic.Pointer[crossing]
}

func (f *faultyOld) around(ctx context.Context, point string, call func() error) error {
	return around(ctx, &f.cross, point, call)
}

func around(ctx context.Context, cross *atomic.Pointer[crossing], point string, call func() error) error {
	if fn := cross.Load(); fn != nil {
		if err := (*fn)(ctx, "before "+point); err != nil {
			return err
		}
	}
	err := call()
	if fn := cross.Load(); fn != nil {
		if err := (*fn)(ctx, "after "+point); err != nil {
			return err
		}
	}
	return err
}

func (f *faultyOld) Get(ctx context.Context, keys ...string) (entries []entry, err error) {
	err = f.around(ctx, "Get", func() (err error) { entries, err = f.oldStore.Get(ctx, keys...); return err })
	return entries, err
}

func (f *faultyOld) Scan(ctx context.Context, cursor string, count int) (page cutover.KeyPage, err error) {
	err = f.around(ctx, "Scan", func() (err error) { page, err = f.oldStore.Scan(ctx, cursor, count); return err })
	return page, err
}

func (f *faultyOld) Write(ctx context.Context, w cutover.Write[string]) error {
	return f.around(ctx, "Write", func() error { return f.oldStore.Write(ctx, w) })
}

func (f *faultyOld) Copy(ctx context.Context, c cutover.Copy[string]) error {
	return f.around(ctx, "Copy", func() error { return f.oldStore.Copy(ctx, c) })
}

func (f *faultyOld) Update(ctx context.Context, key string, fn func(entry) (cutover.Write[string], error)) error {
	return f.around(ctx, "Update", func() error { return f.oldStore.Update(ctx, key, fn) })
}

func (f *faultyOld) Fence(ctx context.Context, epoch int64) (now int64, err error) {
	err = f.around(ctx, "Fence", func() (err error) { now, err = f.oldStore.Fence(ctx, epoch); return err })
	return now, err
}

func (f *faultyOld) Marks(ctx context.Context, cursor string, limit int) (page cutover.MarkPage, err error) {
	err = f.around(ctx, "Marks", func() (err error) { page, err = f.oldStore.Marks(ctx, cursor, limit); return err })
	return page, err
}

func (f *faultyOld) RemoveMarks(ctx context.Context, marks ...cutover.Mark) error {
	return f.around(ctx, "RemoveMarks", func() error { return f.oldStore.RemoveMarks(ctx, marks...) })
}

func (f *faultyOld) CountMarks(ctx context.Context) (c cutover.MarkCount, err error) {
	err = f.around(ctx, "CountMarks", func() (err error) { c, err = f.oldStore.CountMarks(ctx); return err })
	return c, err
}

// faultyNew is the PostgreSQL side whose calls cross points.
type faultyNew struct {
	*cutover.Repository[string, Item, string]

	cross atomic.Pointer[crossing]
}

func (f *faultyNew) Get(ctx context.Context, keys ...string) (entries []entry, err error) {
	err = around(ctx, &f.cross, "new Get", func() (err error) { entries, err = f.Repository.Get(ctx, keys...); return err })
	return entries, err
}

func (f *faultyNew) Put(ctx context.Context, entries ...entry) error {
	return around(ctx, &f.cross, "new Put", func() error { return f.Repository.Put(ctx, entries...) })
}

func (f *faultyNew) List(ctx context.Context, after string, limit int) (entries []entry, err error) {
	err = around(ctx, &f.cross, "new List", func() (err error) { entries, err = f.Repository.List(ctx, after, limit); return err })
	return entries, err
}

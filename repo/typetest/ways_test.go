package typetest_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// kind is what a way of writing returns if a stored value can't be read.
type kind int

const (
	single  kind = iota // the row is stored, and the error is a CommittedError
	atomic              // nothing is stored, and the error is a ReadError
	writing             // nothing is read back
)

// way is a way in which a row can travel to the server.
type way struct {
	name string
	kind kind
	// existing is set if the rows exist before. many is set if the way takes several rows.
	existing, many bool
}

func ways() []way {
	return []way{
		{name: "Create", kind: single},
		{name: "Create in a transaction", kind: atomic},
		{name: "Batch", kind: single},
		{name: "Upsert", kind: single},
		{name: "Upsert of an existing row", kind: single, existing: true},
		{name: "Update", kind: single, existing: true},
		{name: "Patch", kind: single, existing: true},
		{name: "UpdateWhere", kind: writing, existing: true},
		{name: "CreateMany", kind: atomic, many: true},
		{name: "CreateMany, staged", kind: atomic, many: true},
		{name: "CopyMany", kind: writing, many: true},
		{name: "Import", kind: writing, many: true},
		{name: "UpsertMany", kind: atomic, many: true},
		{name: "UpsertMany, staged", kind: atomic, many: true, existing: true},
		{name: "UpdateMany", kind: atomic, many: true, existing: true},
		{name: "UpdateMany, staged", kind: atomic, many: true, existing: true},
	}
}

func reads() []string {
	return []string{"Get", "GetMany", "Find", "First", "All", "Page", "Batch", "Query", "Stream", "QueryOne", "in a transaction"}
}

// access writes and reads the rows of a table. It hides the type of its model.
//
//nolint:interfacebloat // a model's type is hidden once
type access interface {
	// write writes rows, a slice of the model. column and value are those to write.
	write(ctx context.Context, way string, rows reflect.Value, column string) error
	// read reads one row.
	read(ctx context.Context, read string, id int64) (reflect.Value, error)
	// find returns the keys of the rows that match, in the order of the keys. pages does so by pages in the order of a column.
	find(ctx context.Context, filter repo.Filter) ([]int64, error)
	pages(ctx context.Context, order repo.Order) ([]int64, error)
}

// newAccess returns the access to a table of a model of type T.
//
//nolint:ireturn // it hides T
func newAccess[T any](m *txn.Manager, table string) (access, error) {
	plain, err := repo.New[T, int64](m, table)
	if err != nil {
		return nil, err
	}
	staged, err := repo.New[T, int64](m, table, repo.WithStagingThreshold(1))
	return accessOf[T]{m, table, plain, staged}, err
}

type accessOf[T any] struct {
	m             *txn.Manager
	table         string
	plain, staged *repo.Repository[T, int64]
}

func (a accessOf[T]) write(ctx context.Context, name string, list reflect.Value, column string) error {
	rows, _ := reflect.TypeAssert[[]T](list)
	row := &rows[0]
	switch name {
	case "Create":
		return a.plain.Create(ctx, row)
	case "Create in a transaction":
		return a.m.Do(ctx, func(ctx context.Context) error { return a.plain.Create(ctx, row) })
	case "Batch":
		var b repo.Batch
		a.plain.In(&b).Create(row)
		a.plain.In(&b).Count()
		return b.Send(ctx)
	case "Upsert", "Upsert of an existing row":
		_, err := a.plain.Upsert(ctx, row)
		return err
	case "Update":
		return a.plain.Update(ctx, row)
	case "Patch", "UpdateWhere":
		set := []repo.Change{repo.Set(column, fieldOf(reflect.ValueOf(row).Elem(), column).Interface())}
		if name == "UpdateWhere" {
			_, err := a.plain.UpdateWhere(ctx, set, repo.Eq("id", a.plain.KeyOf(row)))
			return err
		}
		_, err := a.plain.Patch(ctx, a.plain.KeyOf(row), set)
		return err
	case "CreateMany":
		return a.plain.CreateMany(ctx, rows)
	case "CreateMany, staged":
		return a.staged.CreateMany(ctx, rows)
	case "CopyMany":
		_, err := a.plain.CopyMany(ctx, rows)
		return err
	case "Import":
		_, err := a.plain.Import(ctx, func(yield func(T, error) bool) {
			for _, row := range rows {
				if !yield(row, nil) {
					return
				}
			}
		})
		return err
	case "UpsertMany":
		_, err := a.plain.UpsertMany(ctx, rows)
		return err
	case "UpsertMany, staged":
		_, err := a.staged.UpsertMany(ctx, rows)
		return err
	case "UpdateMany":
		return a.plain.UpdateMany(ctx, rows)
	case "UpdateMany, staged":
		return a.staged.UpdateMany(ctx, rows)
	}
	return fmt.Errorf("there is no way %q", name)
}

var errRows = errors.New("another number of rows than one")

func (a accessOf[T]) read(ctx context.Context, name string, id int64) (reflect.Value, error) {
	found, err := a.readRows(ctx, name, id)
	if err != nil {
		return reflect.Value{}, err
	}
	if len(found) != 1 {
		return reflect.Value{}, errRows
	}
	return reflect.ValueOf(found[0]), nil
}

func (a accessOf[T]) readRows(ctx context.Context, name string, id int64) ([]T, error) {
	only, sql := repo.Eq("id", id), "select * from "+a.table+" where id = $1"
	one := func(row *T, err error) ([]T, error) {
		if err != nil {
			return nil, err
		}
		return []T{*row}, nil
	}
	switch name {
	case "Get":
		return one(a.plain.Get(ctx, id))
	case "in a transaction":
		var found []T
		err := a.m.Do(ctx, func(ctx context.Context) (err error) {
			found, err = one(a.plain.Get(ctx, id))
			return err
		}, txn.ReadOnly())
		return found, err
	case "GetMany":
		return a.plain.GetMany(ctx, []int64{id})
	case "Find":
		return a.plain.Find(ctx, only)
	case "First":
		return one(a.plain.First(ctx, only))
	case "All":
		var found []T
		for row, err := range a.plain.All(ctx, only) {
			if err != nil {
				return nil, err
			}
			found = append(found, *row)
		}
		return found, nil
	case "Page":
		page, err := a.plain.Page(ctx, "", 5, only)
		if err != nil {
			return nil, err
		}
		return page.Rows, nil
	case "Batch":
		var b repo.Batch
		result := a.plain.In(&b).Get(id)
		if err := b.Send(ctx); err != nil {
			return nil, err
		}
		return one(result.Value())
	case "Query":
		return repo.Query[T](ctx, a.m, sql, id)
	case "QueryOne":
		row, err := repo.QueryOne[T](ctx, a.m, sql, id)
		return one(&row, err)
	case "Stream":
		var found []T
		for row, err := range repo.Stream[T](ctx, a.m, sql, id) {
			if err != nil {
				return nil, err
			}
			found = append(found, row)
		}
		return found, nil
	}
	return nil, fmt.Errorf("there is no read %q", name)
}

func (a accessOf[T]) find(ctx context.Context, filter repo.Filter) ([]int64, error) {
	return repo.Column[int64](ctx, a.plain, "id", filter, repo.Asc("id"))
}

func (a accessOf[T]) pages(ctx context.Context, order repo.Order) ([]int64, error) {
	var ids []int64
	for cursor := ""; ; {
		page, err := a.plain.Page(ctx, cursor, 2, order)
		if err != nil {
			return nil, err
		}
		for i := range page.Rows {
			ids = append(ids, a.plain.KeyOf(&page.Rows[i]))
		}
		if cursor = page.Next; cursor == "" || len(ids) > 1000 {
			return ids, nil
		}
	}
}

package repo_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/repo"
)

type Toggled struct {
	ID   int64  `db:"id,pk"`
	On   bool   `db:"on_,default"`
	Note string `db:"note,default"`
}

func TestSendZero_SendsZeroValuesOfDefaultColumnsInEveryWrite(t *testing.T) {
	t.Parallel()
	m := newManager(t, "create table toggled (id bigint primary key, on_ bool not null default true, note text not null default 'x')")
	r := newRepo[Toggled, int64](t, m, "toggled", repo.WithStagingThreshold(4))
	ctx, off := t.Context(), repo.SendZero("on_")
	next := int64(0)
	rows := func(n int) []Toggled {
		list := make([]Toggled, n)
		for i := range list {
			next++
			list[i].ID = next
		}
		return list
	}
	check := func(name string, written []Toggled, on bool) {
		t.Helper()
		for _, row := range written {
			stored, err := r.Get(ctx, row.ID)
			require.NoError(t, err, name)
			assert.Equal(t, Toggled{row.ID, on, "x"}, *stored, name)
		}
	}
	for _, n := range []int{1, 2, 6} {
		for name, write := range map[string]func(list []Toggled) error{
			"Create": func(list []Toggled) error { return r.Create(ctx, &list[0], off) },
			"batch": func(list []Toggled) error {
				var batch repo.Batch
				r.In(&batch).Create(&list[0], off)
				return batch.Send(ctx)
			},
			"CreateMany": func(list []Toggled) error { return r.CreateMany(ctx, list, off) },
			"CopyMany":   func(list []Toggled) error { return second(r.CopyMany(ctx, list, off)) },
			"Import":     func(list []Toggled) error { return second(r.Import(ctx, each(list), off)) },
			"Import, skipping": func(list []Toggled) error {
				return second(r.Import(ctx, each(list), off, repo.OnRowError(nil)))
			},
			"Upsert":     func(list []Toggled) error { return second(r.Upsert(ctx, &list[0], off)) },
			"UpsertMany": func(list []Toggled) error { return second(r.UpsertMany(ctx, list, off)) },
			"Upsert of an existing row": func(list []Toggled) error {
				require.NoError(t, r.Create(ctx, &Toggled{ID: list[0].ID}))
				return second(r.Upsert(ctx, &list[0], off))
			},
			"UpsertMany of existing rows": func(list []Toggled) error {
				existing := append([]Toggled{}, list...)
				require.NoError(t, r.CreateMany(ctx, existing))
				check("without the option", existing, true)
				return second(r.UpsertMany(ctx, list, off))
			},
		} {
			list := rows(n)
			require.NoError(t, write(list), name)
			if name == "Create" || name == "batch" || name == "Upsert" || name == "Upsert of an existing row" {
				list = list[:1]
			}
			check(name, list, false)
		}
	}
	require.ErrorIs(t, r.Create(ctx, &Toggled{}, repo.SendZero("id")), repo.ErrQuery)
	require.ErrorContains(t, r.CreateMany(ctx, rows(1), repo.SendZero("of")), `no column "of"`)
	require.ErrorContains(t, r.Create(ctx, &Toggled{}, nil), "a create option is nil")
	for _, err := range []error{
		second(r.CopyMany(ctx, rows(1), repo.SendZero("id"))), second(r.Import(ctx, each(rows(1)), repo.SendZero("id"))),
		second(r.Upsert(ctx, &Toggled{}, repo.SendZero("id"))), second(r.UpsertMany(ctx, rows(1), repo.SendZero("id"))),
	} {
		require.ErrorContains(t, err, "doesn't have the role default")
	}
}

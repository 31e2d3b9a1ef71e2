package repo_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

type parent struct {
	ID int64 `db:"id,pk"`
}

type child struct {
	ID     int64 `db:"id,pk"`
	Parent int64
	Slot   int64
}

var (
	errNoParent    = errors.New("no such parent")
	errHasChildren = errors.New("the parent has children")
	errSlotTaken   = errors.New("the slot is taken")
)

// family is two tables whose constraints are checked when the transaction is committed.
type family struct {
	m        *txn.Manager
	parents  *repo.Repository[parent, int64]
	children *repo.Repository[child, int64]
}

func newFamily(t *testing.T) family {
	t.Helper()
	m := newManager(t, "create table parents (id bigint primary key)",
		`create table children (id bigint primary key, slot bigint not null,
			parent bigint not null constraint children_parent references parents deferrable initially deferred,
			constraint children_slot unique (slot) deferrable initially deferred)`)
	return family{
		m: m,
		// Both map the constraint: that of the constraint's table is meant.
		parents: newRepo[parent, int64](t, m, "parents", repo.MapConstraint("children_parent", errHasChildren)),
		children: newRepo[child, int64](t, m, "children", repo.MapConstraint("children_parent", errNoParent),
			repo.MapConstraint("children_slot", errSlotTaken)),
	}
}

func children(n int) []child {
	rows := make([]child, n)
	for i := range rows {
		rows[i] = child{ID: int64(i + 1), Slot: int64(i + 1), Parent: 404}
	}
	return rows
}

func TestConstraintError_DeferredConstraint(t *testing.T) { //nolint:tparallel // they write and count the same rows
	t.Parallel()
	f, ctx := newFamily(t), t.Context()
	orphan := func(ctx context.Context) error { return f.children.Create(ctx, &child{ID: 1, Parent: 404}) }
	for name, write := range map[string]func() error{
		"in Do": func() error { return f.m.Do(ctx, orphan) },
		"in a nested": func() error {
			return f.m.Do(ctx, func(ctx context.Context) error { return f.m.Do(ctx, orphan, txn.Nested()) })
		},
		"alone":        func() error { return orphan(ctx) },
		"with options": func() error { return f.m.Do(ctx, orphan, txn.Serializable()) },
		"in a retried Do": func() error {
			attempts := 0
			err := f.m.Do(ctx, func(ctx context.Context) error { attempts++; return orphan(ctx) }, txn.Serializable(), txn.Retry(pgfx.RetryPolicy{}))
			assert.Equal(t, 1, attempts)
			return err
		},
		"in a batch": func() error {
			var batch repo.Batch
			f.children.In(&batch).Create(&child{ID: 1, Parent: 404})
			return batch.Send(ctx)
		},
		"in a batch in Do": func() error {
			return f.m.Do(ctx, func(ctx context.Context) error {
				var batch repo.Batch
				f.children.In(&batch).Create(&child{ID: 1, Parent: 404})
				return batch.Send(ctx)
			})
		},
		"CreateMany of 2":   func() error { return f.children.CreateMany(ctx, children(2)) },
		"CreateMany of 300": func() error { return f.children.CreateMany(ctx, children(300)) },
		"UpsertMany of 300": func() error { return second(f.children.UpsertMany(ctx, children(300))) },
		"CopyMany":          func() error { return second(f.children.CopyMany(ctx, children(3))) },
		"by SQL": func() error {
			return f.m.Do(ctx, func(ctx context.Context) error {
				_, err := f.m.Exec(ctx, "insert into children values (1, 404, 1)")
				return err
			})
		},
		"in middleware": func() (err error) {
			handler := f.m.Middleware(txn.HTTPConfig{OnError: func(_ http.ResponseWriter, _ *http.Request, failed error) { err = failed }})
			handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				assert.NoError(t, orphan(r.Context()))
			})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodPost, "/", nil))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := write()
			constraint, ok := errors.AsType[*repo.ConstraintError](err)
			require.True(t, ok, "%v", err)
			assert.Equal(t, "children_parent", constraint.Constraint)
			assert.Equal(t, "children", constraint.Table)
			assert.Equal(t, repo.KindForeignKey, constraint.Kind)
			assert.Equal(t, -1, constraint.Index)
			require.ErrorIs(t, err, errNoParent)
			require.NotErrorIs(t, err, errHasChildren)
			require.ErrorIs(t, err, repo.ErrConstraint)
			_, ok = errors.AsType[*pgconn.PgError](err)
			assert.True(t, ok)
			n, err := f.children.Count(ctx)
			require.NoError(t, err)
			assert.Zero(t, n)
		})
	}
}

func TestConstraintError_DeferredConstraintOfAnotherTable(t *testing.T) {
	t.Parallel()
	m := newManager(t, "create table parents (id bigint primary key)",
		"create table children (parent bigint constraint children_parent references parents deferrable initially deferred)",
		"insert into parents values (1)", "insert into children values (1)")
	newRepo[parent, int64](t, m, "parents", repo.MapConstraint("children_parent", errors.New("replaced")))
	parents := newRepo[parent, int64](t, m, "parents", repo.MapConstraint("children_parent", errHasChildren))
	err := m.Do(t.Context(), func(ctx context.Context) error { return parents.Delete(ctx, 1) })
	require.ErrorIs(t, err, errHasChildren)
	require.EqualError(t, err, "repo: the parent has children: foreign key constraint children_parent of children (id) violated")
	err = m.Do(t.Context(), func(ctx context.Context) error { return parents.Delete(ctx, 2) })
	require.ErrorIs(t, err, repo.ErrNotFound, "other errors stay as they are")
}

package rdsfx_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx"
	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// TestDatabase_WorksWithTheLeastPrivileges logs in as a role that may only read and write the rows of its tables.
func TestDatabase_WorksWithTheLeastPrivileges(t *testing.T) {
	t.Parallel()
	ctx := within(t, time.Minute)
	url := fxtest.URL(t, fxtest.SQL("create table items (id bigint primary key, name text not null)"))
	admin, err := pgx.Connect(ctx, url)
	require.NoError(t, err)
	role := "least_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	script := func(sql string) {
		_, err := admin.Exec(context.WithoutCancel(ctx), fmt.Sprintf(sql, role), pgx.QueryExecModeSimpleProtocol)
		require.NoError(t, err)
	}
	script(`create role %[1]s login password 'least'; grant connect on database ` + admin.Config().Database + ` to %[1]s;
		revoke all on database ` + admin.Config().Database + ` from public; revoke create on schema public from public;
		grant select, insert, update, delete on items to %[1]s`)
	t.Cleanup(func() {
		script("drop owned by %[1]s; drop role %[1]s")
		assert.NoError(t, admin.Close(context.WithoutCancel(ctx)))
	})

	proxy := faults.NewProxy(t, url)
	model, err := repo.ModelOf[Item, int64]("items")
	require.NoError(t, err)
	db, err := rdsfx.Open(pgfx.Config{URL: proxy.URL(), Username: role, Password: "least"},
		rdsfx.WithModels(model), rdsfx.WithSchemaPolicy(rdsfx.SchemaFail))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close(context.WithoutCancel(ctx))) })
	require.NoError(t, db.Start(ctx))
	assert.Equal(t, health.Up, db.Health.Status().State)
	_, err = db.Tx.Exec(ctx, "create table other ()")
	require.Error(t, err, "the role may not create tables")

	items, err := repo.New[Item, int64](db.Tx, "items", repo.WithStagingThreshold(2))
	require.NoError(t, err)
	many := []Item{{ID: 1, Name: "a"}, {ID: 2, Name: "b"}, {ID: 3, Name: "c"}}
	require.NoError(t, items.CreateMany(ctx, many))
	_, err = items.UpsertMany(ctx, many)
	require.NoError(t, err)
	require.NoError(t, items.UpdateMany(ctx, many))
	_, err = items.CopyMany(ctx, []Item{{ID: 4, Name: "d"}})
	require.NoError(t, err)
	_, err = items.DeleteMany(ctx, []int64{3, 4})
	require.NoError(t, err)
	found, err := items.Find(ctx)
	require.NoError(t, err)
	assert.Len(t, found, 2)

	lock := func(ctx context.Context) error { return txn.AdvisoryLock(ctx, "items") }
	proxy.DropCommitAck()
	require.NoError(t, db.Tx.Do(ctx, lock, txn.ResolveCommit(txn.ByWitness), txn.Serializable()), "an in-doubt commit")
	require.NoError(t, db.Tx.WithSessionLock(ctx, "items", func(context.Context) error { return nil }))
	_, err = db.Health.ProbeNow(ctx)
	require.NoError(t, err)

	// A marker requires a table, which the role may not create. The error names it, and the transaction does not begin.
	err = db.Tx.Do(ctx, lock, txn.ResolveCommit(txn.ByMarker))
	require.ErrorContains(t, err, "create table rdsfx_txn_markers")
	require.ErrorContains(t, err, "42501")
	require.NotErrorIs(t, err, txn.ErrOutcomeUnknown)
	script(`create table rdsfx_txn_markers (
			id uuid primary key, written timestamptz not null default now(), aborted boolean not null default false);
		grant select, insert, delete on rdsfx_txn_markers to %s`)
	require.NoError(t, db.Tx.Do(ctx, lock, txn.ResolveCommit(txn.ByMarker)))
}

// Item is a row of a table on which the role has only the privileges for rows.
type Item struct {
	ID   int64  `db:"id,pk"`
	Name string `db:"name"`
}

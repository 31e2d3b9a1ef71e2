package fxtest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/repo"
)

// usersTable is the schema of the examples in docs/testing.md.
const usersTable = "create table users (id uuid primary key default gen_random_uuid(), email text not null unique)"

// docs: unit of work
func TestSignUp_IsAtomic(t *testing.T) {
	t.Parallel()
	var users *repo.Repository[User, uuid.UUID]
	app := fxtest.New(t, fxtest.SQL(usersTable), fxtest.Fx(
		repo.Provide[User, uuid.UUID]("users"),
		fx.Populate(&users),
	))

	errMail := errors.New("welcome mail not queued")
	err := app.Tx.Do(t.Context(), func(ctx context.Context) error {
		if err := users.Create(ctx, &User{Email: "ada@example.com"}); err != nil {
			return err
		}
		return errMail
	})
	require.ErrorIs(t, err, errMail)

	exists, err := users.Exists(t.Context(), repo.Eq("email", "ada@example.com"))
	require.NoError(t, err)
	require.False(t, exists)
}

// docs: end

// docs: round trips
func TestListUsers_TakesOneRoundTrip(t *testing.T) {
	t.Parallel()
	var users *repo.Repository[User, uuid.UUID]
	app := fxtest.New(t, fxtest.SQL(usersTable), fxtest.Fx(repo.Provide[User, uuid.UUID]("users"), fx.Populate(&users)))

	counter := fxtest.Statements(t, app.DB)
	_, err := users.Find(t.Context(), repo.Asc("email"), repo.Limit(100))
	require.NoError(t, err)
	counter.AssertRoundTrips(1) // fails on an N+1 problem

	fxtest.AssertUsesIndex(t, app.DB, "select id from users where email = $1", "ada@example.com")
}

// docs: end

// docs: fault
func TestTransfer_RunsOnceIfAckIsLost(t *testing.T) {
	t.Parallel()
	proxy := faults.NewProxy(t, fxtest.URL(t, fxtest.SQL("create table transfers (id int)")))
	app := fxtest.New(t, fxtest.At(proxy.URL()))

	proxy.DropCommitAck() // the server commits, but the client gets no reply
	err := app.Tx.Do(t.Context(), func(ctx context.Context) error {
		_, err := app.Tx.Exec(ctx, "insert into transfers values (1)")
		return err
	})
	require.NoError(t, err, "the manager resolves the outcome of the commit")

	var transfers int
	require.NoError(t, app.Pool.QueryRow(t.Context(), "select count(*) from transfers").Scan(&transfers))
	require.Equal(t, 1, transfers)
}

// docs: end

// docs: failover
func TestWrites_ContinueAfterFailover(t *testing.T) {
	t.Parallel()
	cluster := faults.NewCluster(t)
	endpoint := cluster.Resolver() // a host name, like a cloud's writer endpoint
	app := fxtest.New(t, fxtest.At(endpoint.URL()), fxtest.Pool(endpoint.Option()))

	cluster.KillPrimary()
	cluster.Promote()
	endpoint.Point(cluster.Standby().URL())

	require.Eventually(t, func() bool {
		_, err := app.Pool.Exec(t.Context(), "create table if not exists t ()")
		return err == nil
	}, 30*time.Second, 10*time.Millisecond)
}

// docs: end

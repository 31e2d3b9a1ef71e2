package pgfx_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/internal/testctx"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

type parcel struct {
	ID      uuid.UUID         `db:"id,pk"`
	Label   string            `db:"label"`
	Tags    []string          `db:"tags"`
	Details map[string]string `db:"details"`
	Sent    time.Time         `db:"sent"`
	Grams   int               `db:"grams"`
}

const parcels = `create table parcels (id uuid primary key, label text not null, tags text[] not null, details jsonb not null,
	sent timestamptz not null, grams int not null)`

func TestPoolerTransaction_SupportsAllOperations(t *testing.T) {
	t.Parallel()
	pooled, direct := pgBouncer(t, 2)
	pooled.Pool.MaxConns = 6
	pooled.Timeouts.Validate = time.Minute // validation waits for one of the pooler's sessions, as all statements do
	db := started(t, pooled)
	db.ValidateAlways()
	_, err := db.Pool().Exec(t.Context(), parcels+"")
	require.NoError(t, err)
	manager, err := txn.NewManager(db, txn.WithDefaults(txn.Timeout(10*time.Second)))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, manager.Close(context.WithoutCancel(t.Context()))) })
	repository, err := repo.New[parcel, uuid.UUID](manager, "parcels")
	require.NoError(t, err)

	const workers, rounds = 6, 15
	failed := make(chan error, workers)
	var group sync.WaitGroup
	for worker := range workers {
		group.Go(func() {
			for round := range rounds {
				if err := poolerRound(t.Context(), manager, repository, worker, round); err != nil {
					failed <- fmt.Errorf("round %d: %w", round, err)
					return
				}
			}
		})
	}
	group.Wait()
	close(failed)
	for err := range failed {
		require.NoError(t, err)
	}
	assert.Greater(t, db.Stats().Pool.Open, 2, "more connections than sessions")

	direct.ApplicationName = "observer"
	observing := started(t, direct)
	var prepared, left int
	for range 20 { // checks each session that PgBouncer may assign
		require.NoError(t, db.Pool().QueryRow(t.Context(), "select count(*) from pg_prepared_statements where name <> ''").Scan(&prepared))
		require.Zero(t, prepared, "no statement is prepared under a name")
	}
	require.NoError(t, observing.Pool().QueryRow(t.Context(), "select count(*) from parcels").Scan(&left))
	assert.Equal(t, workers*rounds, left)
	var sessions int // without those of the observer, one of which may be ending, and without the server's own
	require.NoError(t, observing.Pool().QueryRow(t.Context(), `select count(*) from pg_stat_activity
		where datname = current_database() and backend_type = 'client backend' and application_name not like 'observer%'`).Scan(&sessions))
	assert.Positive(t, sessions)
	assert.LessOrEqual(t, sessions, 2)
}

// poolerRound uses each kind of operation: a repository, a transaction with an advisory lock, a batch, and a nested COPY that
// is rolled back.
func poolerRound(ctx context.Context, m *txn.Manager, parcels *repo.Repository[parcel, uuid.UUID], worker, round int) error {
	row := parcel{
		ID: uuid.New(), Label: fmt.Sprintf("%d/%d", worker, round), Tags: []string{"a", "b,c"}, Details: map[string]string{"k": "v"},
		Sent: time.Unix(1_700_000_000, 0).UTC(), Grams: round,
	}
	if err := parcels.Create(ctx, &row); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	got, err := parcels.Get(ctx, row.ID)
	if err != nil {
		return fmt.Errorf("get: %w", err)
	}
	if got.Label != row.Label || got.Details["k"] != "v" || len(got.Tags) != 2 || !got.Sent.Equal(row.Sent) {
		return fmt.Errorf("got %+v", got)
	}
	return m.Do(ctx, func(ctx context.Context) error {
		if err := txn.AdvisoryLock(ctx, "parcels"); err != nil {
			return err
		}
		batch := &pgx.Batch{}
		batch.Queue("update parcels set grams = grams + $1 where id = $2", 1, row.ID)
		batch.Queue("select grams from parcels where id = $1", row.ID)
		if err := m.SendBatch(ctx, batch).Close(); err != nil {
			return fmt.Errorf("batch: %w", err)
		}
		err := m.Do(ctx, func(ctx context.Context) error {
			_, err := m.CopyFrom(ctx, pgx.Identifier{"parcels"}, []string{"id", "label", "tags", "details", "sent", "grams"},
				pgx.CopyFromRows([][]any{{uuid.New(), "copied", []string{}, map[string]string{}, time.Now(), 1}}))
			if err != nil {
				return fmt.Errorf("copy: %w", err)
			}
			return errRollback
		}, txn.Nested())
		if err != errRollback { //nolint:errorlint // not wrapped
			return fmt.Errorf("nested: %w", err)
		}
		return nil
	})
}

var errRollback = errors.New("roll back")

func TestPoolerTransaction_TimeoutsAndCancels(t *testing.T) {
	t.Parallel()
	pooled, direct := pgBouncer(t, 1)
	pooled.Pool.MaxConns, pooled.Timeouts.Cancel = 3, eventually
	db, admin := started(t, pooled), started(t, direct)
	manager, err := txn.NewManager(db)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, manager.Close(context.WithoutCancel(t.Context()))) })

	before := db.Stats().Pool.Connected
	ctx, expire := testctx.Expiring(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, err := db.Pool().Exec(ctx, "select pg_sleep($1)", 60)
		failed <- err
	}()
	waitForSleep(t, admin, "datname = current_database()")
	expire()
	require.ErrorContains(t, <-failed, "57014")
	_, err = db.Pool().Exec(within(t, eventually), "select 1")
	require.NoError(t, err, "the cancelled statement releases the only session")
	assert.Equal(t, before, db.Stats().Pool.Connected, "the connection survives")

	err = manager.Do(t.Context(), func(ctx context.Context) error {
		_, err := manager.Exec(ctx, "select pg_sleep(60)")
		return err
	}, txn.StatementTimeout(100*time.Millisecond))
	require.ErrorContains(t, err, "57014")
	var timeout string
	require.NoError(t, db.Pool().QueryRow(t.Context(), "show statement_timeout").Scan(&timeout))
	assert.Equal(t, "0", timeout, "the setting ended with the transaction")
}

func TestPoolerTransaction_SessionsFail(t *testing.T) {
	t.Parallel()
	pooled, _ := pgBouncer(t, 2)
	db := started(t, pooled)
	_, err := db.Session(t.Context(), "listen")
	require.ErrorIs(t, err, pgfx.ErrNoSession)
	manager, err := txn.NewManager(db)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, manager.Close(context.WithoutCancel(t.Context()))) })
	err = manager.WithSessionLock(t.Context(), "key", func(context.Context) error { t.Error("without a lock"); return nil })
	require.ErrorIs(t, err, pgfx.ErrNoSession)

	monitor, err := health.NewMonitor(db)
	require.NoError(t, err)
	require.NoError(t, monitor.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, monitor.Close(context.WithoutCancel(t.Context()))) })
	for range 5 {
		status, err := monitor.ProbeNow(t.Context())
		require.NoError(t, err)
		assert.Equal(t, health.Up, status.State)
	}
}

func TestPoolerTransaction_QueriesServerRole(t *testing.T) {
	t.Parallel()
	pooled, direct := pgBouncer(t, 1)
	pooled.Role = pgfx.RoleWriter
	db := started(t, pooled)
	admin := started(t, direct)
	var database string
	require.NoError(t, admin.Pool().QueryRow(t.Context(), "select current_database()").Scan(&database))
	_, err := admin.Pool().Exec(t.Context(), "alter database "+pgx.Identifier{database}.Sanitize()+" set default_transaction_read_only = on")
	require.NoError(t, err)
	_, err = admin.Pool().Exec(t.Context(), `select pg_terminate_backend(pid, 5000) from pg_stat_activity
		where datname = current_database() and pid <> pg_backend_pid()`)
	require.NoError(t, err)
	db.Reset()
	require.Eventually(t, func() bool { // PgBouncer still reports the parameters of the first session
		_, err := db.Pool().Exec(t.Context(), "select 1")
		return pgfx.CauseOf(err) == pgfx.CauseReadOnly
	}, eventually, tick)
}

func TestPoolerTransaction_StartWaitsForServer(t *testing.T) {
	t.Parallel()
	admin := started(t, serverConfig())
	run := func(sql string) {
		t.Helper()
		_, err := admin.Pool().Exec(context.WithoutCancel(t.Context()), sql)
		require.NoError(t, err)
	}
	database := newDatabase(t)
	run("create role pooled login password 'pooled'")
	t.Cleanup(func() { run("drop role pooled") })
	run("alter database " + database + " connection limit 0")
	address, err := url.Parse(server.URL())
	require.NoError(t, err)
	address.User = url.UserPassword("pooled", "pooled")

	core, logs := observer.New(zapcore.DebugLevel)
	db := open(t, pgBouncerTo(t, address.String(), database, "transaction", 1), pgfx.WithLogger(zap.New(core)))
	begun := make(chan error, 1)
	go func() { begun <- db.Start(within(t, time.Minute)) }()
	require.Eventually(t, func() bool {
		return slices.ContainsFunc(logs.FilterMessage("retrying").All(), func(entry observer.LoggedEntry) bool {
			return strings.Contains(fmt.Sprint(entry.ContextMap()["error"]), "08P01")
		})
	}, eventually, tick)
	run("alter database " + database + " connection limit -1")
	require.NoError(t, <-begun)
}

func TestPoolerDirect_SessionPooling(t *testing.T) {
	t.Parallel()
	pooled := pgBouncerTo(t, server.URL(), newDatabase(t), "session", 4)
	pooled.Pooler, pooled.Pool.MaxConns, pooled.Timeouts.Validate = pgfx.PoolerDirect, 2, time.Minute
	db := started(t, pooled)
	manager, err := txn.NewManager(db)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, manager.Close(context.WithoutCancel(t.Context()))) })
	for range 3 {
		var sum int
		require.NoError(t, db.Pool().QueryRow(t.Context(), "select $1::int + 1", 1).Scan(&sum))
	}
	err = db.Pool().AcquireFunc(t.Context(), func(conn *pgxpool.Conn) error {
		var prepared int
		if _, err := conn.Exec(t.Context(), "set lock_timeout = '7s'"); err != nil {
			return err
		}
		if err := conn.QueryRow(t.Context(), "select count(*) from pg_prepared_statements where name <> ''").Scan(&prepared); err != nil {
			return err
		}
		assert.Positive(t, prepared, "statements are prepared")
		var timeout string
		err := conn.QueryRow(t.Context(), "show lock_timeout").Scan(&timeout)
		assert.Equal(t, "7s", timeout, "settings last")
		return err
	})
	require.NoError(t, err)
	require.NoError(t, manager.WithSessionLock(t.Context(), "key", func(context.Context) error { return nil }))
	session, err := db.Session(t.Context(), "listen")
	require.NoError(t, err)
	_, err = session.Exec(t.Context(), "listen changes")
	require.NoError(t, err)
	_, err = db.Pool().Exec(t.Context(), "notify changes")
	require.NoError(t, err)
	_, err = session.WaitForNotification(within(t, eventually))
	require.NoError(t, err)
	require.NoError(t, session.Close(t.Context()))

	pooled.Timeouts.Statement = time.Second
	_, err = open(t, pooled).Connect(t.Context(), "")
	require.ErrorContains(t, err, "unsupported startup parameter")
	require.ErrorContains(t, err, "PgBouncer accepts no settings at login: set them with alter role, or add them to ignore_startup_parameters")
}

// TestPoolerTransaction_NamedStatementsFail shows why Validate refuses cache_statement: a statement is prepared in one session of
// the pooler and executed in another. PgBouncer 1.21 and later track statements if max_prepared_statements is set.
func TestPoolerTransaction_NamedStatementsFail(t *testing.T) {
	t.Parallel()
	pooled := pgBouncerTo(t, server.URL(), newDatabase(t), "transaction", 2)
	err := pgfx.Config{URL: pooled.URL, Pooler: pgfx.PoolerTransaction, ExecMode: pgfx.ExecCacheStatement}.Validate()
	require.ErrorContains(t, err, "a transaction pooler may run each round trip in another session")
	first, err := pgx.Connect(t.Context(), pooled.URL)
	require.NoError(t, err)
	second, err := pgx.Connect(t.Context(), pooled.URL)
	require.NoError(t, err)
	defer func() { _, _ = first.Close(context.Background()), second.Close(context.Background()) }()
	_, err = first.Exec(t.Context(), "select $1::int", 1)
	require.NoError(t, err)
	_, err = second.Exec(t.Context(), "begin") // reserves the session in which the statement was prepared
	require.NoError(t, err)
	_, err = first.Exec(t.Context(), "select $1::int", 1)
	var pgErr *pgconn.PgError
	require.ErrorAs(t, err, &pgErr)
	assert.Equal(t, "26000", pgErr.Code, "invalid_sql_statement_name")
}

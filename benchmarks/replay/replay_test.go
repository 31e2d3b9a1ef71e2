package replay_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/benchmarks/replay"
	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

func TestMain(m *testing.M) { fxtest.Main(m) }

// start starts a server that trusts the client. The server of fxtest requires a password.
func start(t *testing.T, opts ...embedded.Option) *embedded.Server {
	t.Helper()
	server, err := embedded.Start(t.Context(), opts...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Stop(context.WithoutCancel(t.Context())) })
	return server
}

// open returns a pool whose connections use the tape.
func open(t *testing.T, tape *replay.Tape, url string) *pgxpool.Pool {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(url)
	require.NoError(t, err)
	cfg.ConnConfig.DialFunc = tape.Dial
	cfg.MaxConns = 2
	pool, err := pgxpool.NewWithConfig(context.Background(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// conversation uses every supported kind of exchange and returns the results.
func conversation(ctx context.Context, pool *pgxpool.Pool) (results []string, err error) {
	record := func(result any) { results = append(results, fmt.Sprint(result)) }
	if _, err := pool.Exec(ctx, "drop table if exists things; create table things (id int, name text)"); err != nil {
		return nil, err
	}
	n, err := pool.CopyFrom(ctx, pgx.Identifier{"things"}, []string{"id", "name"},
		pgx.CopyFromSlice(20_000, func(i int) ([]any, error) { return []any{i, "a name that is long enough for several messages"}, nil }))
	if err != nil {
		return nil, err
	}
	record(n)
	rows, err := pool.Query(ctx, "select id, name from things where id < $1 order by id", 5000)
	if err != nil {
		return nil, err
	}
	all, err := pgx.CollectRows(rows, pgx.RowToMap)
	if err != nil {
		return nil, err
	}
	record(len(all))
	record(all[4999])
	var inTx, afterTx string
	const state = "select coalesce(nullif(current_setting('test.scope', true), ''), 'outside')"
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "select set_config('test.scope', 'inside', true)"); err != nil {
			return err
		}
		return tx.QueryRow(ctx, state).Scan(&inTx)
	})
	if err != nil {
		return nil, err
	}
	if err := pool.QueryRow(ctx, state).Scan(&afterTx); err != nil {
		return nil, err
	}
	record(inTx + " and " + afterTx)
	batch := &pgx.Batch{}
	for i := range 3 {
		batch.Queue("select $1::int + 1", i).QueryRow(func(row pgx.Row) error {
			var sum int
			err := row.Scan(&sum)
			record(sum)
			return err
		})
	}
	batch.Queue("update things set name = 'x' where id = $1", 7)
	if err := pool.SendBatch(ctx, batch).Close(); err != nil {
		return nil, err
	}
	_, err = pool.Exec(ctx, "select 1 / $1::int", 0)
	record(err)
	return results, pool.Ping(ctx)
}

func TestTape_PlaysWithoutServer(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server := start(t)
	tape := replay.New(nil)
	live := open(t, tape, server.URL())
	recorded, err := conversation(ctx, live)
	require.NoError(t, err)
	_, err = conversation(ctx, live) // pgx deallocates the failed statement when it next uses the connection
	require.NoError(t, err)
	require.Contains(t, recorded, "inside and outside")
	live.Close()
	assert.Zero(t, tape.Served())
	tape.Play()
	require.NoError(t, server.Stop(ctx))

	pool := open(t, tape, server.URL())
	for range 3 {
		played, err := conversation(ctx, pool)
		require.NoError(t, err)
		assert.Equal(t, recorded, played)
	}
	pool.Close()
	require.NoError(t, tape.Err())
	assert.Greater(t, tape.Served(), int64(30))
}

func TestTape_UnrecordedExchangeFails(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	url := start(t).URL()
	exec := func(ctx context.Context, pool *pgxpool.Pool, sql string, args ...any) error {
		_, err := pool.Exec(ctx, sql, args...)
		return err
	}
	const known = "select $1::int + 41"
	for name, test := range map[string]struct {
		exec func(pool *pgxpool.Pool) error
		want string
	}{
		"another statement": {func(pool *pgxpool.Pool) error { return exec(ctx, pool, "select $1::int + 42", 1) }, `P("select $1::int + 42")`},
		"other formats": {func(pool *pgxpool.Pool) error {
			rows, err := pool.Query(ctx, known, pgx.QueryResultFormats{pgx.TextFormatCode}, 1)
			if err == nil {
				rows.Close()
				err = rows.Err()
			}
			return err
		}, `B("select $1::int + 41")`},
		"more statements in one exchange": {func(pool *pgxpool.Pool) error {
			batch := &pgx.Batch{}
			batch.Queue(known, 1)
			batch.Queue(known, 1)
			return pool.SendBatch(ctx, batch).Close()
		}, `B("select $1::int + 41") E B("select $1::int + 41") E S`},
		"another state": {func(pool *pgxpool.Pool) error {
			return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
				_, err := tx.Exec(ctx, known, 1)
				return err
			})
		}, `exchange not recorded: B("select $1::int + 41")`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tape := replay.New(nil)
			live := open(t, tape, url)
			require.NoError(t, exec(ctx, live, known, 1))
			require.NoError(t, pgx.BeginFunc(ctx, live, func(pgx.Tx) error { return nil }))
			live.Close()
			tape.Play()
			pool := open(t, tape, url)
			require.NoError(t, exec(ctx, pool, known, 2), "another argument is the same exchange")
			require.NoError(t, tape.Err())
			err := test.exec(pool)
			require.ErrorContains(t, err, test.want)
			assert.ErrorIs(t, err, tape.Err())
		})
	}
}

func TestTape_Excuse(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), start(t).URL()
	tape := replay.New(nil)
	live := open(t, tape, url)
	require.NoError(t, live.Ping(ctx))
	live.Close()
	tape.Play()
	tape.IgnoreUnrecorded("background query")
	pool := open(t, tape, url)
	_, err := pool.Exec(ctx, "select 'background query'")
	require.ErrorContains(t, err, "exchange not recorded")
	pool.Close() // waits for pgx's cancel request
	require.NoError(t, tape.Err())
}

func TestPlayer_Deadline(t *testing.T) {
	t.Parallel()
	tape := replay.New(nil)
	tape.Play()
	conn, err := tape.Dial(t.Context(), "unix", "/nowhere")
	require.NoError(t, err)
	waiting := make(chan error, 1)
	go func() {
		_, err := conn.Read(make([]byte, 1))
		waiting <- err
	}()
	require.NoError(t, conn.SetDeadline(time.Now().Add(-time.Second)))
	var timeout interface{ Timeout() bool }
	require.True(t, errors.As(<-waiting, &timeout) && timeout.Timeout())
	require.NoError(t, conn.SetDeadline(time.Time{}))
	require.NoError(t, conn.Close())
	require.NoError(t, conn.Close())
	_, err = conn.Read(make([]byte, 1))
	require.Error(t, err)
	_, err = conn.Write([]byte{0, 0, 0, 8, 0, 0, 0, 0})
	require.Error(t, err)
	assert.Equal(t, "/nowhere", conn.RemoteAddr().String())
}

func TestTape_PasswordNotSupported(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server := start(t, embedded.TCP())
	tape := replay.New(nil)
	err := open(t, tape, server.URL()).Ping(ctx)
	require.ErrorContains(t, err, "record with a server that trusts the client")
}

// TestPlayer_DoesNotAllocate checks that the tape does not distort measurements of allocations.
func TestPlayer_DoesNotAllocate(t *testing.T) { //nolint:paralleltest // it counts the allocations of the process
	ctx := t.Context()
	cfg, err := pgx.ParseConfig(start(t).URL())
	require.NoError(t, err)
	tape := replay.New(nil)
	network, address := pgconn.NetworkAddress(cfg.Host, cfg.Port)
	startup, err := (&pgproto3.StartupMessage{
		ProtocolVersion: pgproto3.ProtocolVersion30,
		Parameters:      map[string]string{"user": cfg.User, "database": cfg.Database},
	}).Encode(nil)
	require.NoError(t, err)
	query, err := (&pgproto3.Parse{Query: "select $1::int"}).Encode(nil)
	require.NoError(t, err)
	for _, message := range []pgproto3.FrontendMessage{
		&pgproto3.Bind{Parameters: [][]byte{[]byte("7")}}, &pgproto3.Execute{}, &pgproto3.Sync{},
	} {
		query, err = message.Encode(query)
		require.NoError(t, err)
	}
	buf := make([]byte, 8192)
	// send writes b in pieces of a size and reads until the server is ready.
	send := func(conn net.Conn, b []byte, size int) {
		for piece := range slices.Chunk(b, size) {
			if _, err := conn.Write(piece); err != nil {
				t.Fatal(err)
			}
		}
		for {
			n, err := conn.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			if n >= 6 && buf[n-6] == 'Z' {
				return
			}
		}
	}
	for range 2 {
		conn, err := tape.Dial(ctx, network, address)
		require.NoError(t, err)
		send(conn, startup, 3)
		send(conn, query, len(query))
		send(conn, query, 7)
		allocs := testing.AllocsPerRun(100, func() {
			send(conn, query, len(query))
		})
		if tape.Served() > 0 {
			assert.Zero(t, allocs)
			assert.Equal(t, int64(104), tape.Served())
		}
		require.NoError(t, conn.Close())
		tape.Play()
	}
}

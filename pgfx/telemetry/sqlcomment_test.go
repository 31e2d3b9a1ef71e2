package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/trace"

	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/telemetry"
	"github.com/rdsfx-go/rdsfx/repo"
)

// ownText is a query for the text of the statement itself, as the server received it.
const ownText = "select query from pg_stat_activity where pid = pg_backend_pid()"

// received is a row of the view received, which holds the text of the statement that reads it.
type received struct {
	ID    int    `db:"id,pk"`
	Query string `db:"query"`
}

const createReceived = "create view received as select 1 as id, query from pg_stat_activity where pid = pg_backend_pid()"

func newCommentFixture(t *testing.T, config pgfx.Config, c telemetry.SQLComment, opts ...telemetry.Option) *fixture {
	t.Helper()
	config.Pool.MaxConns = 1
	f := newFixture(t, config, append(opts, telemetry.WithSQLComment(c))...)
	_, err := f.DB.Pool().Exec(t.Context(), createReceived)
	require.NoError(t, err)
	return f
}

type routeKey struct{}

func routeOf(ctx context.Context) string {
	route, _ := ctx.Value(routeKey{}).(string)
	return route
}

func TestSQLComment_ReachesTheServerOnEveryPath(t *testing.T) {
	t.Parallel()
	const application = "shop's */; drop table users; -- café"
	const comment = " /*application='shop%27s%20%2A%2F%3B%20drop%20table%20users%3B%20--%20caf%C3%A9'*/"
	f := newCommentFixture(t, pgfx.Config{}, telemetry.SQLComment{Application: application})
	rows, err := repo.New[received, int](f.Tx, "received")
	require.NoError(t, err)
	scan := func(row pgx.Row) (text string, err error) {
		err = row.Scan(&text)
		return text, err
	}
	batched := func(batch *pgx.Batch, text *string) {
		batch.Queue(ownText + " and pid > @no").Query(func(pgx.Rows) error { return nil })
		batch.QueuedQueries[0].Arguments = []any{pgx.NamedArgs{"no": 0}}
		batch.QueuedQueries[0].QueryRow(func(row pgx.Row) error { return row.Scan(text) })
	}
	for name, test := range map[string]struct {
		read   func(ctx context.Context) (string, error)
		action string
	}{
		"QueryRow": {read: func(ctx context.Context) (string, error) { return scan(f.Tx.QueryRow(ctx, ownText)) }},
		"Query with named arguments and formats": {read: func(ctx context.Context) (string, error) {
			rows, err := f.Tx.Query(ctx, ownText+" and pid > @no", pgx.QueryResultFormats{0}, pgx.NamedArgs{"no": 0})
			if err != nil {
				return "", err
			}
			return pgx.CollectExactlyOneRow(rows, pgx.RowTo[string])
		}},
		"Exec": {read: func(ctx context.Context) (string, error) {
			if _, err := f.Tx.Exec(ctx, "insert into orders (note) select query from pg_stat_activity where pid = $1 + pg_backend_pid()", 0); err != nil {
				return "", err
			}
			return scan(f.DB.Pool().QueryRow(ctx, "delete from orders returning note"))
		}},
		"Exec without arguments": {read: func(ctx context.Context) (string, error) {
			if _, err := f.Tx.Exec(ctx, "insert into orders (note) "+ownText); err != nil {
				return "", err
			}
			return scan(f.DB.Pool().QueryRow(ctx, "delete from orders returning note"))
		}},
		"Do": {read: func(ctx context.Context) (text string, err error) {
			err = f.Tx.Do(ctx, func(ctx context.Context) error {
				text, err = scan(f.Tx.QueryRow(ctx, ownText))
				return err
			})
			return text, err
		}},
		"Exec in Do": {read: func(ctx context.Context) (text string, err error) {
			err = f.Tx.Do(ctx, func(ctx context.Context) error {
				_, err := f.Tx.Exec(ctx, "insert into orders (note) "+ownText)
				return errors.Join(err, f.Tx.QueryRow(ctx, "delete from orders returning note").Scan(&text))
			})
			return text, err
		}},
		"savepoint": {read: func(ctx context.Context) (text string, err error) {
			err = f.Tx.Do(ctx, func(ctx context.Context) error {
				tx, _ := f.Tx.Tx(ctx)
				return pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
					text, err = scan(tx.QueryRow(ctx, ownText))
					return err
				})
			})
			return text, err
		}},
		"SendBatch": {read: func(ctx context.Context) (text string, err error) {
			var batch pgx.Batch
			batched(&batch, &text)
			err = f.Tx.SendBatch(ctx, &batch).Close()
			assert.Equal(t, ownText+" and pid > @no", batch.QueuedQueries[0].SQL, "the caller's batch stays as it was")
			return text, err
		}},
		"SendBatch in Do": {read: func(ctx context.Context) (text string, err error) {
			err = f.Tx.Do(ctx, func(ctx context.Context) error {
				var batch pgx.Batch
				batched(&batch, &text)
				return f.Tx.SendBatch(ctx, &batch).Close()
			})
			return text, err
		}},
		"DoBatch": {read: func(ctx context.Context) (text string, err error) {
			err = f.Tx.DoBatch(ctx, func(batch *pgx.Batch) { batch.Queue(ownText) }, func(results pgx.BatchResults) error {
				text, err = scan(results.QueryRow())
				return err
			})
			return text, err
		}},
		"database/sql": {read: func(ctx context.Context) (text string, err error) {
			return scan(f.Tx.SQL().QueryRowContext(ctx, ownText+" and pid > $1", 0))
		}},
		"database/sql in Do": {read: func(ctx context.Context) (text string, err error) {
			err = f.Tx.Do(ctx, func(ctx context.Context) error {
				text, err = scan(f.Tx.SQL().QueryRowContext(ctx, ownText))
				return err
			})
			return text, err
		}},
		"repo.Query": {read: func(ctx context.Context) (string, error) {
			return repo.QueryOne[string](ctx, f.Tx, ownText)
		}},
		"repository": {action: "Get%20received", read: func(ctx context.Context) (string, error) {
			row, err := rows.Get(ctx, 1)
			if err != nil {
				return "", err
			}
			return row.Query, nil
		}},
		"batch of repositories": {read: func(ctx context.Context) (string, error) {
			var batch repo.Batch
			row := rows.In(&batch).Get(1)
			if err := batch.Send(ctx); err != nil {
				return "", err
			}
			found, err := row.Value()
			if err != nil {
				return "", err
			}
			return found.Query, nil
		}},
	} {
		text, err := test.read(t.Context())
		require.NoError(t, err, name)
		want := comment
		if test.action != "" {
			want = strings.Replace(comment, "/*", "/*action='"+test.action+"',", 1)
		}
		assert.True(t, strings.HasSuffix(text, want), "%s: %s", name, text)
		assert.Equal(t, 1, strings.Count(text, "/*"), "%s: %s", name, text)
	}
	_, err = f.DB.Pool().Exec(t.Context(), "select from users")
	require.NoError(t, err, "the table is still there")
}

func TestSQLComment_LeavesSomeTextsAsTheyAre(t *testing.T) {
	t.Parallel()
	f := newCommentFixture(t, pgfx.Config{}, telemetry.SQLComment{Application: "shop"})
	var text string
	require.NoError(t, f.Tx.Do(t.Context(), func(ctx context.Context) error {
		tx, _ := f.Tx.Tx(ctx)
		_, err := tx.Prepare(ctx, "own_text", ownText)
		require.NoError(t, err)
		return f.Tx.QueryRow(ctx, "own_text").Scan(&text)
	}))
	assert.Equal(t, ownText, text, "the name of a prepared statement")
	require.NoError(t, f.Tx.QueryRow(t.Context(), ownText+" /* mine */").Scan(&text))
	assert.Equal(t, ownText+" /* mine */", text, "a comment of the application")
	require.NoError(t, f.DB.Pool().QueryRow(t.Context(), ownText).Scan(&text))
	assert.Equal(t, ownText, text, "the pool")
}

func TestSQLComment_OfSampledStatementsHasTheirSpan(t *testing.T) {
	t.Parallel()
	f := newCommentFixture(t, pgfx.Config{}, telemetry.SQLComment{Application: "shop", Route: routeOf})
	ctx, span := f.traces.Tracer("test").Start(context.WithValue(t.Context(), routeKey{}, "/orders/{id}"), "request")
	defer span.End()
	traceparent := fmt.Sprintf("traceparent='00-%s-%s-01'", span.SpanContext().TraceID(), span.SpanContext().SpanID())
	var text string
	require.NoError(t, f.Tx.QueryRow(ctx, ownText).Scan(&text))
	assert.Equal(t, ownText+" /*application='shop',route='%2Forders%2F%7Bid%7D',"+traceparent+"*/", text)

	var batch pgx.Batch
	batch.Queue(ownText).QueryRow(func(row pgx.Row) error { return row.Scan(&text) })
	require.NoError(t, f.Tx.SendBatch(ctx, &batch).Close())
	assert.Equal(t, ownText+" /*application='shop',route='%2Forders%2F%7Bid%7D'*/", text, "batches are cached")

	dropped, span := trace.NewTracerProvider(trace.WithSampler(trace.NeverSample())).Tracer("test").Start(t.Context(), "request")
	defer span.End()
	require.NoError(t, f.Tx.QueryRow(dropped, ownText).Scan(&text))
	assert.Equal(t, ownText+" /*application='shop'*/", text)

	quiet := newCommentFixture(t, pgfx.Config{}, telemetry.SQLComment{Propagator: propagation.NewCompositeTextMapPropagator()})
	require.NoError(t, quiet.Tx.QueryRow(ctx, ownText).Scan(&text))
	assert.Equal(t, ownText, text)
}

// status has a codec only if the type of its column is known.
type status string

func (status) String() string { return "wrong" }

func TestSQLComment_SparesTheStatementCache(t *testing.T) {
	t.Parallel()
	const sql = "insert into bookings (day, state) values ($1, $2) returning day::text || ' ' || state"
	day := time.Date(2026, 3, 1, 0, 30, 0, 0, time.FixedZone("east", 3600)) // another day in UTC
	for name, test := range map[string]struct {
		config   pgfx.Config
		prepared int
		sampled  bool
	}{
		"cache_statement":    {pgfx.Config{}, 1, true},
		"cache_describe":     {pgfx.Config{ExecMode: pgfx.ExecCacheDescribe}, 0, true},
		"describe_exec":      {pgfx.Config{ExecMode: pgfx.ExecDescribe}, 0, true},
		"transaction pooler": {pgfx.Config{Pooler: pgfx.PoolerTransaction}, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newCommentFixture(t, test.config, telemetry.SQLComment{Application: "shop"})
			_, err := f.DB.Pool().Exec(t.Context(), "create table bookings (day date, state text)")
			require.NoError(t, err)
			insert := func(ctx context.Context) {
				var stored string
				require.NoError(t, f.Tx.QueryRow(ctx, sql, day, status("open")).Scan(&stored))
				assert.Equal(t, "2026-03-01 open", stored, "sampling changes no value")
			}
			insert(t.Context())
			for range 5 {
				f.traced(t, func(ctx context.Context) {
					insert(ctx)
					require.NoError(t, f.Tx.Do(ctx, func(ctx context.Context) error { insert(ctx); return nil }))
					var text string
					require.NoError(t, f.Tx.QueryRow(ctx, ownText).Scan(&text))
					assert.Equal(t, test.sampled, strings.Contains(text, "traceparent"), text)
				})
			}
			rows, err := f.DB.Pool().Query(t.Context(), "select statement from pg_prepared_statements where statement like 'insert into bookings%'",
				pgx.QueryExecModeExec)
			require.NoError(t, err)
			prepared, err := pgx.CollectRows(rows, pgx.RowTo[string])
			require.NoError(t, err)
			require.Len(t, prepared, test.prepared)
			for _, text := range prepared {
				assert.Equal(t, sql+" /*application='shop'*/", text)
			}
		})
	}
}

func TestSQLComment_HasFewRoutes(t *testing.T) {
	t.Parallel()
	f := newCommentFixture(t, pgfx.Config{}, telemetry.SQLComment{Route: routeOf})
	for i := range 150 {
		var text string
		ctx := context.WithValue(t.Context(), routeKey{}, strconv.Itoa(i))
		require.NoError(t, f.Tx.QueryRow(ctx, ownText).Scan(&text))
		want := ""
		if i < 100 {
			want = fmt.Sprintf(" /*route='%d'*/", i)
		}
		require.Equal(t, ownText+want, text)
	}
}

// small is a row of a table whose column number is an int4.
type small struct {
	ID     int   `db:"id,pk"`
	Number int64 `db:"number"`
}

func TestSQLComment_KeepsErrorsAndStatistics(t *testing.T) {
	t.Parallel()
	f := newCommentFixture(t, pgfx.Config{}, telemetry.SQLComment{Application: "shop"})
	_, err := f.DB.Pool().Exec(t.Context(), "create table smalls (id int primary key, number int not null)")
	require.NoError(t, err)
	smalls, err := repo.New[small, int](f.Tx, "smalls")
	require.NoError(t, err)
	var batch repo.Batch
	smalls.In(&batch).Create(&small{ID: 1})
	smalls.In(&batch).Create(&small{ID: 2, Number: 1 << 40})
	err = batch.Send(t.Context())
	require.ErrorIs(t, err, repo.ErrValue)
	var refused *repo.ValueError
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, "number", refused.Column, "%v", err)
	var failed *repo.BatchError
	require.ErrorAs(t, err, &failed)
	assert.Equal(t, 1, failed.Index)

	_, spans := f.traced(t, func(ctx context.Context) {
		require.NoError(t, f.Tx.QueryRow(ctx, ownText).Scan(new(string)))
	})
	require.NotEmpty(t, spans)
	for _, span := range spans {
		assert.NotContains(t, attributesOf(span)["db.query.text"], "/*")
	}
	for _, statement := range f.DB.Statements() {
		assert.NotContains(t, statement.Text, "/*")
	}
}

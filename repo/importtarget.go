package repo

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// importTarget describes the table of an import, from the catalog. It is read each time, because a COPY would store silently what an
// INSERT refuses.
type importTarget struct {
	now time.Time
	// generated are the columns that are always generated.
	generated []string
	// checksLate is set if triggers may refuse a row after the last one was copied. COPY then names none.
	checksLate bool
	// refusesCopy is set for views and tables with row-level security, which COPY refuses, and for rules, which it ignores.
	refusesCopy bool
}

// importTargetSQL reads an importTarget. In tgtype, 1 is for each row, 2 before, 4 insert and 64 instead of (PostgreSQL's
// src/include/catalog/pg_trigger.h). A trigger that is deferred initially fires at the commit.
const importTargetSQL = `select now(),
	coalesce((select array_agg(a.attname::text) from pg_catalog.pg_attribute a
		where a.attrelid = c.oid and a.attnum > 0 and (a.attidentity = 'a' or a.attgenerated <> '')), '{}'),
	exists (select from pg_catalog.pg_trigger t
		where (t.tgrelid = c.oid or t.tgrelid in (select relid from pg_catalog.pg_partition_tree(c.oid)))
			and t.tgtype & 5 = 5 and t.tgtype & 66 = 0 and not t.tginitdeferred and t.tgenabled <> 'D'),
	coalesce(c.relhasrules or pg_catalog.row_security_active(c.oid), false)
from (select pg_catalog.to_regclass($1) as oid) as n left join pg_catalog.pg_class c on c.oid = n.oid`

func (r *base) readImportTarget(ctx context.Context) (target importTarget, err error) {
	err = run(ctx, r.tx, importTargetSQL, []any{r.d.table}, func(rows pgx.Rows) (err error) {
		target, err = pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (t importTarget, err error) {
			err = row.Scan(&t.now, &t.generated, &t.checksLate, &t.refusesCopy)
			return t, err //nolint:wrapcheck // run wraps it
		})
		return err //nolint:wrapcheck // as above
	})
	return target, err
}

// checkGenerated returns the server's error for an insert that gives a value to a column that is always generated.
func (r *base) checkGenerated(ctx context.Context, op string, target importTarget, layout []byte) error {
	sent := func(c *column) bool { return slices.Contains(target.generated, c.name) }
	if len(target.generated) == 0 || !slices.ContainsFunc(r.d.layoutColumns(layout), sent) {
		return nil
	}
	err := r.tx.AcquireFunc(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Prepare(ctx, "", r.d.compileInsert(nil, layout))
		return err //nolint:wrapcheck // wrapped below
	})
	return r.wrap(op, err)
}

// insertRows sends one INSERT per row, all in one round trip, and reads nothing back. It needs no privilege other than that to
// insert. A value that can't be encoded is found beforehand, because the driver would close the connection.
func (r *base) insertRows(ctx context.Context, op string, layout []byte, next rowSource, position func(number int) int) error {
	live, err := r.liveColumns(ctx)
	if err != nil {
		return err
	}
	sql, batch, describe := r.d.compileInsert(live, layout), &pgx.Batch{}, newDescriber(r.untyped)
	for {
		row, err := next()
		if err == errNoMoreRows { //nolint:errorlint // it is never wrapped
			break
		}
		describe.queue(batch, sql, r.d.insertArgs(live, make([]any, 0, len(layout)), row, layout))
	}
	if !r.untyped {
		if err := r.checkEncodable(ctx, op, layout, position, batch); err != nil {
			return err
		}
	}
	results := r.tx.SendBatch(ctx, batch)
	for number := range batch.Len() {
		if _, err := results.Exec(); err != nil {
			_ = results.Close() // the error that matters is the first
			return r.d.wrapRow(op, nameArgument(err, r.d.argColumns(layout)), position(unsent(number, err)), "")
		}
	}
	return r.wrap(op, results.Close())
}

var errUnencodable = errors.New("the driver can't encode the value")

// checkEncodable returns the error for the first value of a batch of one statement that can't be encoded.
func (r *base) checkEncodable(
	ctx context.Context, op string, layout []byte, position func(number int) int, batch *pgx.Batch,
) error {
	var refused *ValueError
	number := 0
	err := describeStatement(ctx, r.tx, batch.QueuedQueries[0].SQL, nil, func(conn *pgx.Conn, oids []uint32, _ []any) {
		for ; number < batch.Len(); number++ {
			if parameter := firstUnencodable(conn.TypeMap(), oids, batch.QueuedQueries[number].Arguments); parameter > 0 {
				refused = &ValueError{Parameter: parameter, err: errUnencodable}
				refused.setType(ctx, conn, oids)
				return
			}
		}
	})
	if err != nil || refused == nil {
		return r.wrap(op, err)
	}
	return r.d.wrapRow(op, nameArgument(refused, r.d.argColumns(layout)), position(number), "")
}

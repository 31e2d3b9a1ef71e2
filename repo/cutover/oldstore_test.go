package cutover_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/repo/cutover"
)

// oldStore is an old store in a second PostgreSQL database. It has the atomic steps that Redis has by scripts.
type oldStore struct{ pool *pgxpool.Pool }

const oldStoreDDL = `
create table if not exists kv (key text primary key, value text not null, expires timestamptz);
create table if not exists marks (id text primary key, key text not null, at timestamptz not null default clock_timestamp());
create table if not exists versions (key text primary key, version bigint not null);
create table if not exists fence (epoch bigint not null);
insert into fence select 0 where not exists (select from fence);
create or replace function check_fence(_epoch bigint) returns void language plpgsql as $$
declare current bigint;
begin
	select epoch into current from fence for share;
	if current <> _epoch then raise exception 'fenced' using errcode = 'RF001'; end if;
end $$;
create or replace function put(_key text, _found boolean, _value text, _expires timestamptz) returns void language sql as $$
	delete from kv where not _found and key = _key;
	insert into kv select _key, _value, _expires where _found
		on conflict (key) do update set value = excluded.value, expires = excluded.expires;
$$;
create or replace function write(_key text, _found boolean, _value text, _expires timestamptz, _ttl interval, _epoch bigint, _mark text)
returns void language plpgsql as $$
begin
	perform check_fence(_epoch);
	perform pg_advisory_xact_lock(hashtext(_key));
	if _mark <> '' then insert into marks (id, key) values (_mark, _key) on conflict do nothing; end if;
	if _ttl > interval '0' then _expires := date_trunc('milliseconds', clock_timestamp() + _ttl); end if;
	perform put(_key, _found, _value, _expires);
end $$;
create or replace function write_if(_before text, _key text, _found boolean, _value text, _expires timestamptz, _epoch bigint, _mark text)
returns void language plpgsql as $$
declare present text;
begin
	perform pg_advisory_xact_lock(hashtext(_key));
	select value into present from kv where key = _key and (expires is null or expires > clock_timestamp());
	if present is distinct from _before then raise exception 'changed' using errcode = 'RF002'; end if;
	perform write(_key, _found, _value, _expires, interval '0', _epoch, _mark);
end $$;
create or replace function copy_back(_key text, _found boolean, _value text, _expires timestamptz, _version bigint, _epoch bigint)
returns void language plpgsql as $$
declare taken bigint;
begin
	perform check_fence(_epoch);
	insert into versions as v values (_key, _version)
		on conflict (key) do update set version = excluded.version where v.version < excluded.version
		returning version into taken;
	if taken is null then return; end if;
	perform put(_key, _found and coalesce(_expires > clock_timestamp(), true), _value, _expires);
end $$;`

// newOldStore returns an old store in the database at this URL.
func newOldStore(tb testing.TB, url string) *oldStore {
	tb.Helper()
	pool, err := pgxpool.New(context.Background(), url)
	require.NoError(tb, err)
	tb.Cleanup(pool.Close)
	return &oldStore{pool}
}

func (o *oldStore) create(tb testing.TB) *oldStore {
	tb.Helper()
	_, err := o.pool.Exec(context.Background(), oldStoreDDL)
	require.NoError(tb, err)
	return o
}

// clear removes everything, the fence included.
func (o *oldStore) clear(tb testing.TB) {
	tb.Helper()
	_, err := o.pool.Exec(context.Background(), "truncate kv, marks, versions; update fence set epoch = 0")
	require.NoError(tb, err)
}

func (o *oldStore) Get(ctx context.Context, keys ...string) ([]cutover.Entry[string], error) {
	rows, err := o.pool.Query(ctx, `select wanted.key, kv.key is not null, coalesce(value, ''), expires
		from unnest($1::text[]) with ordinality as wanted (key, position)
		left join kv on kv.key = wanted.key and (expires is null or expires > clock_timestamp()) order by position`, keys)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanEntry)
}

func scanEntry(row pgx.CollectableRow) (e cutover.Entry[string], err error) {
	var expires *time.Time
	err = row.Scan(&e.Key, &e.Found, &e.Value, &expires)
	if expires != nil {
		e.Expires = *expires
	}
	return e, err
}

// Scan returns keys in their order. Its cursor is the last key and the backend's start, so a restart of the server loses it.
func (o *oldStore) Scan(ctx context.Context, cursor string, count int) (cutover.KeyPage, error) {
	var start string
	if err := o.pool.QueryRow(ctx, "select extract(epoch from pg_postmaster_start_time())::text").Scan(&start); err != nil {
		return cutover.KeyPage{}, err
	}
	after := ""
	if cursor != "" {
		began, last, _ := strings.Cut(cursor, " ")
		if began != start {
			return cutover.KeyPage{}, cutover.ErrCursorLost
		}
		after = last
	}
	rows, err := o.pool.Query(ctx, `select key from kv where key > $1 and (expires is null or expires > clock_timestamp())
		order by key limit $2`, after, count)
	if err != nil {
		return cutover.KeyPage{}, err
	}
	keys, err := pgx.CollectRows(rows, pgx.RowTo[string])
	page := cutover.KeyPage{Keys: keys}
	if len(keys) == count {
		page.Next = start + " " + keys[len(keys)-1]
		page.Keys = append(page.Keys, keys[0]) // a scan may repeat keys
	}
	return page, err
}

func (o *oldStore) Size(ctx context.Context) (n int64, err error) {
	err = o.pool.QueryRow(ctx, "select count(*) from kv").Scan(&n)
	return n, err
}

func (o *oldStore) Write(ctx context.Context, w cutover.Write[string]) error {
	_, err := o.pool.Exec(ctx, "select write($1, $2, $3, $4, $5, $6, $7)", w.Key, w.Found, w.Value, null(w.Expires), w.TTL, w.Epoch, w.Mark)
	return fenced(err)
}

func (o *oldStore) Copy(ctx context.Context, c cutover.Copy[string]) error {
	_, err := o.pool.Exec(ctx, "select copy_back($1, $2, $3, $4, $5, $6)", c.Key, c.Found, c.Value, null(c.Expires), c.Version, c.Epoch)
	return fenced(err)
}

// Update compares values, which differ in every test.
func (o *oldStore) Update(ctx context.Context, key string, fn func(cutover.Entry[string]) (cutover.Write[string], error)) error {
	entries, err := o.Get(ctx, key)
	if err != nil {
		return err
	}
	w, err := fn(entries[0])
	if err != nil {
		return err
	}
	var before *string
	if entries[0].Found {
		before = &entries[0].Value
	}
	_, err = o.pool.Exec(ctx, "select write_if($1, $2, $3, $4, $5, $6, $7)", before, key, w.Found, w.Value, null(w.Expires), w.Epoch, w.Mark)
	return fenced(err)
}

func (o *oldStore) Fence(ctx context.Context, epoch int64) (now int64, err error) {
	if epoch == 0 {
		err = o.pool.QueryRow(ctx, "select epoch from fence").Scan(&now)
		return now, err
	}
	err = o.pool.QueryRow(ctx, "update fence set epoch = greatest(epoch, $1) returning epoch", epoch).Scan(&now)
	return now, err
}

func (o *oldStore) Marks(ctx context.Context, cursor string, limit int) (page cutover.MarkPage, err error) {
	at, id, _ := strings.Cut(cursor, " ")
	if at == "" {
		at = "-infinity"
	}
	rows, err := o.pool.Query(ctx, "select id, key, at from marks where (at, id) > ($1::text::timestamptz, $2) order by at, id limit $3",
		at, id, limit)
	if err != nil {
		return page, err
	}
	page.Marks, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (m cutover.Mark, err error) {
		return m, row.Scan(&m.ID, &m.Key, &m.At)
	})
	if len(page.Marks) == limit {
		last := page.Marks[limit-1]
		page.Next = last.At.UTC().Format(time.RFC3339Nano) + " " + last.ID
	}
	return page, err
}

func (o *oldStore) RemoveMarks(ctx context.Context, marks ...cutover.Mark) error {
	ids := make([]string, len(marks))
	for i, m := range marks {
		ids[i] = m.ID
	}
	_, err := o.pool.Exec(ctx, "delete from marks where id = any($1)", ids)
	return err
}

func (o *oldStore) CountMarks(ctx context.Context) (c cutover.MarkCount, err error) {
	var oldest *time.Time
	err = o.pool.QueryRow(ctx, "select count(*), min(at) from marks").Scan(&c.Count, &oldest)
	if oldest != nil {
		c.Oldest = *oldest
	}
	return c, err
}

func (o *oldStore) Clean(ctx context.Context) error {
	_, err := o.pool.Exec(ctx, "truncate marks, versions")
	return err
}

// CheckEntry refuses one value, as Redis refuses an empty list.
func (o *oldStore) CheckEntry(e entry) error {
	if e.Value == unstorable {
		return errors.New("the old store can't hold this value")
	}
	return nil
}

const unstorable = "unstorable"

func (o *oldStore) Describe(ctx context.Context, keys ...string) ([]cutover.Description, error) {
	entries, err := o.Get(ctx, keys...)
	described := make([]cutover.Description, len(entries))
	for i, e := range entries {
		if described[i].Key = e.Key; e.Found {
			described[i].Type, described[i].Bytes = "text", int64(len(e.Key)+len(e.Value))
		}
		if !e.Expires.IsZero() {
			described[i].TTL = time.Until(e.Expires)
		}
	}
	return described, err
}

// fenced returns the error of the interface for that of a function.
func fenced(err error) error {
	var refused *pgconn.PgError
	switch {
	case !errors.As(err, &refused):
		return err
	case refused.Code == "RF001":
		return cutover.ErrFenced
	case refused.Code == "RF002":
		return cutover.ErrChanged
	}
	return err
}

func null(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

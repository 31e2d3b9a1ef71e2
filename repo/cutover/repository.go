package cutover

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/repo"
)

// Mapping maps entries to the rows of a repository. T is the row and K its key. All functions must be set, and must not keep state.
type Mapping[V, T, K any] struct {
	// Key returns the primary key of a key of the old store.
	Key func(key string) (K, error)
	// Row returns the row for an entry that is found.
	Row func(entry Entry[V]) (T, error)
	// Entry returns the entry of a row. Its Found is set by the caller.
	Entry func(row *T) (Entry[V], error)
	// KeyColumn is the column of the primary key, which must be a single one.
	KeyColumn string
	// ExpiresColumn is the column with the expiry, a timestamptz that is null in rows that never expire. Empty: rows don't expire.
	ExpiresColumn string
}

// Repository is a [New] of a repository. Make it with [FromRepository]. It is safe for concurrent use.
type Repository[V, T, K any] struct {
	rows    *repo.Repository[T, K]
	mapping Mapping[V, T, K]
}

// FromRepository returns the PostgreSQL side of a cutover whose keys are the rows of a table. Each key of the old store must be one row.
// The model must not have a softdelete column, and its key not the role default. A key that maps to no row, such as one of another
// application, is an error: leave it out of the old store's scan.
func FromRepository[V, T, K any](rows *repo.Repository[T, K], mapping Mapping[V, T, K]) (*Repository[V, T, K], error) {
	if rows == nil || mapping.Key == nil || mapping.Row == nil || mapping.Entry == nil || mapping.KeyColumn == "" {
		return nil, errors.New("cutover: FromRepository needs a repository and a Mapping with Key, Row, Entry and KeyColumn")
	}
	return &Repository[V, T, K]{rows, mapping}, nil
}

// Get implements [New].
func (r *Repository[V, T, K]) Get(ctx context.Context, keys ...string) ([]Entry[V], error) {
	primary, err := r.primaryKeys(keys)
	if err != nil {
		return nil, err
	}
	rows, err := r.rows.GetMany(ctx, primary)
	var missing *repo.MissingError
	if err != nil && !errors.As(err, &missing) {
		return nil, err
	}
	found, err := r.entries(rows)
	if err != nil {
		return nil, err
	}
	byKey := make(map[string]Entry[V], len(found))
	for _, e := range found {
		byKey[e.Key] = e
	}
	entries := make([]Entry[V], len(keys))
	for i, key := range keys {
		entries[i] = byKey[key]
		entries[i].Key = key
	}
	return entries, nil
}

// Put implements [New].
func (r *Repository[V, T, K]) Put(ctx context.Context, entries ...Entry[V]) error {
	var rows []T
	var absent []string
	for _, e := range entries {
		if !e.Found {
			absent = append(absent, e.Key)
			continue
		}
		row, err := r.mapping.Row(e)
		if err != nil {
			return &KeyError{Key: e.Key, Cause: err}
		}
		rows = append(rows, row)
	}
	if len(absent) > 0 {
		keys, err := r.primaryKeys(absent)
		if err != nil {
			return err
		}
		if _, err := r.rows.DeleteMany(ctx, keys); err != nil {
			return err
		}
	}
	if len(rows) == 0 {
		return nil
	}
	_, err := r.rows.UpsertMany(ctx, rows)
	return err
}

// List implements [New].
func (r *Repository[V, T, K]) List(ctx context.Context, after string, limit int) ([]Entry[V], error) {
	options := []repo.QueryOption{repo.OrderBy(r.mapping.KeyColumn), repo.Limit(limit)}
	if after != "" {
		key, err := r.mapping.Key(after)
		if err != nil {
			return nil, &KeyError{Key: after, Cause: err}
		}
		options = append(options, repo.Gt(r.mapping.KeyColumn, key))
	}
	rows, err := r.rows.Find(ctx, options...)
	if err != nil {
		return nil, err
	}
	return r.entries(rows)
}

// DeleteExpired implements [NewSweeper].
func (r *Repository[V, T, K]) DeleteExpired(ctx context.Context, limit int) (int64, error) {
	if r.mapping.ExpiresColumn == "" {
		return 0, nil
	}
	expired := repo.Where(pgx.Identifier{r.mapping.ExpiresColumn}.Sanitize() + " <= clock_timestamp()")
	rows, err := r.rows.Find(ctx, expired, repo.OrderBy(r.mapping.ExpiresColumn), repo.Limit(limit))
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	keys := make([]K, len(rows))
	for i := range rows {
		keys[i] = r.rows.KeyOf(&rows[i])
	}
	return r.rows.DeleteWhere(ctx, repo.In(r.mapping.KeyColumn, keys...), expired)
}

// entries returns the entries of rows.
func (r *Repository[V, T, K]) entries(rows []T) ([]Entry[V], error) {
	entries := make([]Entry[V], len(rows))
	for i := range rows {
		e, err := r.mapping.Entry(&rows[i])
		if err != nil {
			return nil, fmt.Errorf("cutover: entry of a row: %w", err)
		}
		e.Found = true
		entries[i] = e
	}
	return entries, nil
}

func (r *Repository[V, T, K]) primaryKeys(keys []string) ([]K, error) {
	primary := make([]K, len(keys))
	for i, key := range keys {
		var err error
		if primary[i], err = r.mapping.Key(key); err != nil {
			return nil, &KeyError{Key: key, Cause: err}
		}
	}
	return primary, nil
}

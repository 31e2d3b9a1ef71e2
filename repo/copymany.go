package repo

import "context"

// CopyMany inserts all rows or none with COPY straight into the table, and returns how many rows were stored. It is the fastest
// way to insert, and the one that returns nothing: the structs are unchanged. Use [Repository.CreateMany] if defaults, generated
// columns or keys have to come back.
//
// Values are written as by [Repository.Import]. created, updated and version are filled as by Create, with one time for all
// rows. A zero key is replaced by one of [WithKeys]; to know the keys afterwards, set them before the call. A column with the
// role default is left to the database if it is zero in the first row. It then has to be zero in all rows, unless [SendZero]
// sends it. COPY bypasses the defaults of other columns: a nil field is stored as NULL. One duplicate key or violated constraint
// fails the whole call.
//
// It joins the transaction of ctx, or is atomic by itself. It takes two round trips and the data. Tables with foreign keys,
// triggers, rules or row-level security, and views, are written as by Import: in several statements of one transaction. It needs no
// privilege to select. Errors: [*InvalidError], [*ConstraintError] and [*RowError], with the row's index and, where known, the
// column.
func (r *Repository[T, K]) CopyMany(ctx context.Context, rows []T, opts ...CreateOption) (int64, error) {
	ctx = r.named(ctx, "CopyMany")
	next := 0
	zero, err := r.d.createOptions(opts)
	if err != nil {
		return 0, err
	}
	source := r.newImportSource(ctx, "copy")
	source.zero = zero
	source.nextRow = func() (row T, err error, ok bool) {
		if next == len(rows) {
			return row, nil, false
		}
		next++
		return rows[next-1], nil, true
	}
	return r.importFrom(ctx, source)
}

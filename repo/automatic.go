package repo

import (
	"database/sql"
	"reflect"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// setAutomatic sets the zero fields of a row that is copied into its table: the key from WithKeys, created, updated and the version.
func (d *descriptor) setAutomatic(v reflect.Value, now time.Time) {
	for _, position := range d.key {
		if c := &d.columns[position]; d.newKey != nil && fieldIsZero(v, c) {
			v.FieldByIndex(c.index).Set(d.newKey.make())
		}
	}
	for _, position := range []int{d.created, d.updated} {
		if position >= 0 && fieldIsZero(v, &d.columns[position]) {
			setTime(v.FieldByIndex(d.columns[position].index), now)
		}
	}
	if d.version >= 0 && fieldIsZero(v, &d.columns[d.version]) {
		setInt(v.FieldByIndex(d.columns[d.version].index), 1)
	}
}

// setTime sets a field of a type that the roles created and updated allow (see isTime).
func setTime(f reflect.Value, at time.Time) {
	switch to := f.Addr().Interface().(type) {
	case *time.Time:
		*to = at
	case **time.Time:
		*to = &at
	case *sql.NullTime:
		*to = sql.NullTime{Time: at, Valid: true}
	case *sql.Null[time.Time]:
		*to = sql.Null[time.Time]{V: at, Valid: true}
	case *pgtype.Timestamptz:
		*to = pgtype.Timestamptz{Time: at, Valid: true}
	case *pgtype.Timestamp:
		*to = pgtype.Timestamp{Time: at, Valid: true}
	}
}

// setInt sets an integer field of any kind.
func setInt(f reflect.Value, n int64) {
	if f.CanInt() {
		f.SetInt(n)
		return
	}
	f.SetUint(uint64(n)) //nolint:gosec // a version counts from 1
}

// Package repo reads and writes rows as structs. A [Repository] does so for one table; [Query], [QueryOne] and [Pluck] do it
// for the application's own SQL. Everything follows the transaction that its ctx carries (see txn.Manager.Do).
//
// # Models
//
// A model is a struct. Each exported field is a column, named by its tag or in snake case; `db:"-"` excludes a field. An
// embedded struct adds its columns as they are, a nested one with its name in front ("address.city"), as scany maps them.
// Types that are one value for the driver (time.Time, uuid.UUID, pgtype.Range, whatever scans itself) are one column. Roles
// follow the name:
//
//	ID        uuid.UUID  `db:"id,pk,default"`          // key; left to the database while it is zero
//	Total     int64      `db:"total,generated"`        // never written; comes back (generated columns, identity)
//	Rank      int        `db:"rank,readonly"`          // never written; comes back (filled by triggers)
//	Options   Settings   `db:"options,json"`           // a struct, map or slice as one json or jsonb column
//	CreatedAt time.Time  `db:"created_at,created"`     // the time of the insert
//	UpdatedAt time.Time  `db:"updated_at,updated"`     // the time of the last change
//	Version   int64      `db:"version,version"`        // optimistic lock
//	DeletedAt *time.Time `db:"deleted_at,softdelete"`  // a timestamp, or a boolean; Delete marks the row
//
// A column with the role default is left to the database while its field is zero. To store a zero, for example false where the
// default is true, pass [SendZero] to the call.
//
// Several fields with the role pk make a composite key; the repository's K is then a struct of fields with the same columns
// and types. A nil pointer, slice or map is NULL, in a json column too. A zero time.Time is not NULL: use *time.Time. A
// column of type timestamp keeps no zone, and no type keeps less than a microsecond. After a write the struct holds the stored
// values.
//
// # Hooks
//
// There are deliberately no hooks such as BeforeCreate or AfterLoad. They are invisible at the call, and they don't run for bulk
// writes and hand-written SQL. To validate rows, give the type a method Validate() error or Validate(ctx) error, or use
// [WithValidator]. It runs before each write of a whole row. Other logic belongs into the calling function.
//
// # Tests
//
// No fake is offered: package fxtest makes the real thing cheap.
package repo

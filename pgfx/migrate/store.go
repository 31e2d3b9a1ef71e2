package migrate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/pressly/goose/v3/database"
)

// store is goose's store for PostgreSQL, which also records the checksum of each file in the same transaction.
type store struct {
	database.StoreExtender

	files map[int64]file
	lease *lease
}

func newStore(table string, files map[int64]file) (*store, error) {
	inner, err := database.NewStore(database.DialectPostgres, table)
	if err != nil {
		return nil, fmt.Errorf("migrate: version table: %w", err)
	}
	extended, ok := inner.(database.StoreExtender)
	if !ok {
		return nil, errors.New("migrate: goose's store for PostgreSQL cannot check for its table")
	}
	return &store{StoreExtender: extended, files: files}, nil
}

// ownKey marks contexts of statements that maintain the version table.
type ownKey struct{}

func own(ctx context.Context) context.Context { return context.WithValue(ctx, ownKey{}, true) }

func (s *store) checksumTable() string { return tableIdentifier(s.Tablename() + "_checksums") }

// tableIdentifier quotes the name of a table that may contain a schema.
func tableIdentifier(name string) string { return pgx.Identifier(strings.Split(name, ".")).Sanitize() }

// CreateVersionTable implements database.Store.
func (s *store) CreateVersionTable(ctx context.Context, db database.DBTxConn) error {
	return s.StoreExtender.CreateVersionTable(own(ctx), db) //nolint:wrapcheck // goose wraps it
}

// Insert implements database.Store.
func (s *store) Insert(ctx context.Context, db database.DBTxConn, req database.InsertRequest) error {
	return s.fenced(ctx, db, func(tx database.DBTxConn) error {
		if err := s.StoreExtender.Insert(own(ctx), tx, req); err != nil {
			return err //nolint:wrapcheck // goose wraps it
		}
		if f, ok := s.files[req.Version]; ok {
			return s.record(ctx, tx, f)
		}
		return nil
	})
}

// fenced runs fn in the transaction db, or in a separate one if db is a *sql.DB. It fails with [ErrLockLost] if the lock is lost, and the
// transaction must then be rolled back.
func (s *store) fenced(ctx context.Context, db database.DBTxConn, fn func(tx database.DBTxConn) error) error {
	if pool, ok := db.(*sql.DB); ok {
		return inTx(ctx, pool, func(tx *sql.Tx) error { return s.fenced(ctx, tx, fn) })
	}
	if err := fn(db); err != nil {
		return err
	}
	return s.lease.fence(ctx, db)
}

func (s *store) record(ctx context.Context, db database.DBTxConn, f file) error {
	_, err := db.ExecContext(own(ctx), "insert into "+s.checksumTable()+" (version, file, checksum) values ($1, $2, $3) "+
		"on conflict (version) do update set file = excluded.file, checksum = excluded.checksum, statements_done = null", f.Version, f.Name, f.checksum)
	return err //nolint:wrapcheck // goose wraps it
}

// recordProgress records how many statements of a file without a transaction are done. It works after ctx has ended too, because
// the statement has taken effect.
func (s *store) recordProgress(ctx context.Context, db *sql.DB, f file, done int) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	statement := "insert into " + s.checksumTable() + ` (version, file, checksum, statements_done) values ($1, $2, $3, $4)
		on conflict (version) do update set file = excluded.file, checksum = excluded.checksum, statements_done = excluded.statements_done`
	return s.fenced(ctx, db, func(tx database.DBTxConn) error {
		_, err := tx.ExecContext(own(ctx), statement, f.Version, f.Name, f.checksumOf(done), done)
		return err //nolint:wrapcheck // the caller wraps it
	})
}

// progress returns how many statements of an unfinished migration are done, and their checksum.
func (s *store) progress(ctx context.Context, db *sql.DB, version int64) (done int, checksum string, err error) {
	err = db.QueryRowContext(ctx, "select statements_done, checksum from "+s.checksumTable()+
		" where version = $1 and statements_done is not null", version).Scan(&done, &checksum)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, "", nil
	}
	return done, checksum, err //nolint:wrapcheck // the caller wraps it
}

// createChecksumTable creates the table of checksums, unless it exists. The caller holds the migration lock.
func (s *store) createChecksumTable(ctx context.Context, db *sql.DB) error {
	if _, err := db.ExecContext(own(ctx), "create table if not exists "+s.checksumTable()+
		" (version bigint primary key, file text not null, checksum text not null, statements_done integer)"); err != nil {
		return fmt.Errorf("migrate: create the table of checksums: %w", err)
	}
	return nil
}

// checksums returns the recorded checksums of applied files by version, none when there is no table.
func (s *store) checksums(ctx context.Context, db *sql.DB) (map[int64]string, error) {
	found := map[int64]string{}
	var exists bool
	err := db.QueryRowContext(ctx, "select to_regclass($1) is not null", s.checksumTable()).Scan(&exists)
	if err != nil || !exists {
		return found, err //nolint:wrapcheck // the caller wraps it
	}
	rows, err := db.QueryContext(ctx, "select version, checksum from "+s.checksumTable()+ //nolint:gosec // a quoted identifier
		" where statements_done is null")
	if err != nil {
		return nil, err //nolint:wrapcheck // the caller wraps it
	}
	defer func() { _ = rows.Close() }() // Err reports what matters
	for rows.Next() {
		var version int64
		var checksum string
		if err := rows.Scan(&version, &checksum); err != nil {
			return nil, err //nolint:wrapcheck // the caller wraps it
		}
		found[version] = checksum
	}
	return found, rows.Err()
}

package migrate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/pressly/goose/v3"
	"go.uber.org/zap"
)

// execer runs statements: a *sql.Tx or a *sql.Conn.
type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// migrationOf returns the migration for goose. Its statements are those that package goosefile finds, so that fxtest and this
// package run the same ones.
func (m *migrator) migrationOf(f file) *goose.Migration {
	if f.Transaction {
		return goose.NewGoMigration(f.Version, &goose.GoFunc{RunTx: func(ctx context.Context, tx *sql.Tx) error {
			return m.runStatements(ctx, tx, f, 0, nil)
		}}, nil)
	}
	return goose.NewGoMigration(f.Version, &goose.GoFunc{RunDB: func(ctx context.Context, db *sql.DB) error {
		done, err := m.resumeAt(ctx, f)
		if err != nil {
			return err
		}
		conn, err := db.Conn(ctx)
		if err != nil {
			return err //nolint:wrapcheck // it has pgx's prefix
		}
		defer func() { _ = conn.Close() }() // statements have been committed
		return m.runStatements(ctx, conn, f, done, func(done int) error { return m.store.recordProgress(ctx, m.sql, f, done) })
	}}, nil)
}

// runStatements runs the statements of a file from a position. If progress is not nil, it is called after each statement with the
// number of statements that are done.
func (m *migrator) runStatements(ctx context.Context, on execer, f file, from int, progress func(done int) error) error {
	for i, statement := range f.Up[from:] {
		m.statements.file, m.statements.line = f.Name, statement.Line
		if _, err := on.ExecContext(ctx, statement.SQL); err != nil {
			return &StatementError{File: f.Name, Line: statement.Line, err: err}
		}
		if progress == nil {
			continue
		}
		if err := progress(from + i + 1); err != nil {
			return &StatementError{File: f.Name, Line: statement.Line, err: fmt.Errorf("the statement is done, but not recorded: %w", err)}
		}
	}
	return nil
}

// resumeAt returns how many statements of a file without a transaction an interrupted run has completed.
func (m *migrator) resumeAt(ctx context.Context, f file) (int, error) {
	done, checksum, err := m.store.progress(ctx, m.sql, f.Version)
	if err != nil {
		return 0, fmt.Errorf("read the progress: %w", err)
	}
	if done > len(f.Up) || done > 0 && f.checksumOf(done) != checksum {
		return 0, &ChangedError{Files: []string{f.Name}, Statements: done}
	}
	if done > 0 {
		m.log.Info("continuing an interrupted migration", zap.String("file", f.Name), zap.Int("statements_done", done))
	}
	return done, nil
}

// applyNext applies the next pending migration. It repeats a migration whose statement timed out waiting for a lock, because its
// transaction has been rolled back.
func (m *migrator) applyNext(ctx context.Context) error {
	m.statements.begin()
	for {
		result, err := m.provider.UpByOne(ctx)
		if err == nil {
			m.log.Info("migration applied", zap.String("file", m.nameOf(result.Source)), zap.Int64("version", result.Source.Version),
				zap.Duration("took", result.Duration), zap.Int("statements", m.statements.count))
			return nil
		}
		partial, failed := errors.AsType[*goose.PartialError](err)
		if !failed {
			return fmt.Errorf("migrate: %w", err)
		}
		if changed, ok := errors.AsType[*ChangedError](err); ok {
			return changed
		}
		version := partial.Failed.Source.Version
		e, located := errors.AsType[*StatementError](err)
		if !located { // beginning, committing, or a migration in Go
			e = &StatementError{File: m.nameOf(partial.Failed.Source), err: partial.Err}
		}
		if !isLockTimeout(err) {
			return m.explain(ctx, e, version)
		}
		m.log.Warn("migration waits for a lock", zap.String("file", e.File), zap.Int("line", e.Line),
			zap.Int("attempt", m.statements.attempts), zap.Stringers("blockers", m.statements.blockers))
		if m.hasTransaction(version) && m.statements.pause(ctx) {
			m.statements.count = 0
			continue
		}
		e.err = &LockTimeoutError{
			Attempts: m.statements.attempts, Elapsed: m.statements.elapsed(), Holders: m.statements.blockers, err: e.err,
		}
		return m.explain(ctx, e, version)
	}
}

// hasTransaction reports whether a migration runs in a transaction, and so can be repeated.
func (m *migrator) hasTransaction(version int64) bool {
	f, ok := m.files[version]
	return !ok || f.Transaction
}

// explain completes the error of a failed migration with what to do.
func (m *migrator) explain(ctx context.Context, e *StatementError, version int64) error {
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		e.hints = append(e.hints, "the start's time ended: raise fx.StartTimeout, or run migrations in a job and use the mode check")
		e.err = errors.Join(context.Cause(ctx), e.err)
	case ctx.Err() != nil && !errors.Is(e.err, ErrLockLost):
		e.err = errors.Join(context.Cause(ctx), e.err)
	case isCode(e.err, activeTransaction):
		e.hints = append(e.hints, "put \"-- +goose NO TRANSACTION\" into the file, with this statement alone")
	}
	if m.hasTransaction(version) {
		return e
	}
	e.hints = append(e.hints, "the file runs without a transaction: statements before this one are kept, and the next run continues here")
	if invalid := m.invalidIndexes(ctx); len(invalid) > 0 {
		e.hints = append(e.hints, fmt.Sprintf("invalid indexes: %v; the next run replaces those that its CREATE INDEX CONCURRENTLY names", invalid))
	}
	return e
}

// invalidIndexes returns the names of indexes that are not valid.
func (m *migrator) invalidIndexes(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	conn, err := m.login.Connect(ctx, "migrate-inspect")
	if err != nil {
		return nil
	}
	defer closeSession(ctx, conn)
	rows, err := conn.Query(ctx, "select indexrelid::regclass::text from pg_index where not indisvalid order by 1")
	if err != nil {
		return nil
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil
	}
	return names
}

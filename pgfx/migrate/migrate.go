package migrate

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pressly/goose/v3"
	"go.uber.org/fx"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// stepOrder puts migrations before setup steps that give no order.
const stepOrder = -1000

// Module adds migrations to an Fx application as a setup step of its database.
func Module(files fs.FS, opts ...Option) fx.Option {
	return fx.Module("migrate", pgfx.ProvideSetup(Step(files, opts...)))
}

// Step returns the setup step, for pgfx.WithSetup or pgfx.ProvideSetup. Its order is -1000, before steps without an order. Wrong
// options are an error of the start.
func Step(files fs.FS, opts ...Option) pgfx.SetupStep {
	s, _ := newSettings(opts) // Run reports the error
	return pgfx.SetupStep{Name: "migrations", Order: stepOrder, Run: func(ctx context.Context, db *pgfx.DB) error {
		return Run(ctx, db, files, opts...)
	}}.For(s.database)
}

// Run applies the pending migrations, or checks that there are none, as the mode requires. The connections it opens are
// outside the pool of db and closed when it returns.
//
// ctx bounds everything. When it ends, the running migration is cancelled; one with a transaction leaves nothing behind, and the
// next Run continues with it. Errors: [*PendingError], [*OrderError], [*ChangedError], [*LockedError], [*StatementError], which
// may wrap a [*LockTimeoutError], [ErrLockLost], and errors of connecting.
func Run(ctx context.Context, db *pgfx.DB, files fs.FS, opts ...Option) error {
	m, err := newMigrator(db, files, opts)
	if err != nil {
		return err
	}
	defer m.close()
	switch m.settings.mode {
	case ModeOff:
		m.log.Debug("migrations are off")
		return nil
	case ModeCheck:
		pending, err := m.pending(ctx)
		if err == nil && len(pending) > 0 {
			err = &PendingError{Files: pending}
		}
		return err
	case ModeRun:
	}
	return m.run(ctx)
}

// Pending returns the names of the migrations that have not been applied, in their order. It changes nothing. Errors are those
// of [Run].
func Pending(ctx context.Context, db *pgfx.DB, files fs.FS, opts ...Option) ([]string, error) {
	m, err := newMigrator(db, files, opts)
	if err != nil {
		return nil, err
	}
	defer m.close()
	return m.pending(ctx)
}

// migrator is one run.
type migrator struct {
	settings   settings
	files      map[int64]file
	db         *pgfx.DB // the application's
	login      *pgfx.DB // the owner's, which may be the same
	sql        *sql.DB
	statements *statementRunner
	store      *store
	provider   *goose.Provider
	log        *zap.Logger
}

func newMigrator(db *pgfx.DB, files fs.FS, opts []Option) (*migrator, error) {
	s, err := newSettings(opts)
	if err != nil {
		return nil, err
	}
	if err := s.readEnvironment(db.Internals().EnvPrefix()); err != nil {
		return nil, err
	}
	m := &migrator{settings: s, db: db, login: db, log: db.Logger().Named("migrate")}
	if db.Name() != "" {
		m.log = m.log.With(zap.String("database_name", db.Name()))
	}
	if s.mode == ModeOff {
		return m, nil
	}
	sub, byVersion, err := readFiles(files, s.dir)
	if err != nil {
		return nil, err
	}
	m.files = byVersion
	if s.hasOwner() {
		if m.login, err = pgfx.Open(s.ownerConfig(db.Config()), pgfx.WithLogger(db.Logger())); err != nil {
			return nil, fmt.Errorf("migrate: owner: %w", err)
		}
	}
	if err := m.open(sub); err != nil {
		m.close()
		return nil, err
	}
	return m, nil
}

func (m *migrator) open(files fs.FS) (err error) {
	m.statements = &statementRunner{settings: &m.settings, inspect: m.inspect}
	m.sql = sql.OpenDB(connector{m.login.Internals().Connector("migrate"), m.statements})
	if m.store, err = newStore(m.settings.table, m.files); err != nil {
		return err
	}
	m.provider, err = goose.NewProvider(goose.DialectCustom, m.sql, files, goose.WithStore(m.store), goose.WithDisableGlobalRegistry(true),
		goose.WithGoMigrations(m.settings.goMigrations...), goose.WithAllowOutofOrder(m.settings.outOfOrder))
	if errors.Is(err, goose.ErrNoMigrations) {
		return fmt.Errorf("migrate: no migration in directory %s: add files such as 00001_users.sql, or correct WithDir", m.settings.dir)
	}
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

func (m *migrator) close() {
	if m.sql != nil {
		_ = m.sql.Close() // its connections are closed in any case
	}
	if m.login != m.db {
		_ = m.login.Close(context.Background()) // it has no pooled connection, so it cannot block
	}
}

// inspect returns the sessions that block a session. Its errors are not reported, because it only completes another error.
func (m *migrator) inspect(ctx context.Context, pid uint32) []Session {
	conn, err := m.login.Connect(ctx, "migrate-inspect")
	if err != nil {
		return nil
	}
	defer closeSession(ctx, conn)
	blockers, err := blockersOf(ctx, conn, pid)
	if err != nil {
		return nil
	}
	return blockers
}

// pending compares the migrations with the version table.
func (m *migrator) pending(ctx context.Context) ([]string, error) {
	applied, newest, err := m.applied(ctx)
	if err != nil {
		return nil, err
	}
	checksums, err := m.store.checksums(ctx, m.sql)
	if err != nil {
		return nil, fmt.Errorf("migrate: read the checksums: %w", err)
	}
	var pending, late, changed []string
	var latest int64
	for _, source := range m.provider.ListSources() {
		name := m.nameOf(source)
		latest = max(latest, source.Version)
		switch recorded, known := checksums[source.Version], m.files[source.Version]; {
		case !applied[source.Version]:
			pending = append(pending, name)
			if source.Version < newest {
				late = append(late, name)
			}
		case recorded != "" && known.checksum != "" && recorded != known.checksum:
			changed = append(changed, name)
		}
	}
	if len(changed) > 0 {
		return nil, &ChangedError{Files: changed}
	}
	if len(late) > 0 && !m.settings.outOfOrder {
		return nil, &OrderError{Files: late, Newest: newest}
	}
	if newest > latest {
		m.log.Warn("the database is newer than this program", zap.Int64("database_version", newest), zap.Int64("program_version", latest))
	}
	return pending, nil
}

// applied returns the applied versions and the newest of them.
func (m *migrator) applied(ctx context.Context) (versions map[int64]bool, newest int64, err error) {
	versions = map[int64]bool{}
	exists, err := m.store.TableExists(ctx, m.sql)
	if err != nil || !exists {
		return versions, 0, wrapRead(err)
	}
	rows, err := m.store.ListMigrations(ctx, m.sql)
	if err != nil {
		return nil, 0, wrapRead(err)
	}
	for _, row := range rows {
		if _, seen := versions[row.Version]; !seen { // newest row first
			versions[row.Version] = row.IsApplied
			if row.IsApplied {
				newest = max(newest, row.Version)
			}
		}
	}
	return versions, newest, nil
}

func wrapRead(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("migrate: read the version table: %w", err)
}

func (m *migrator) nameOf(source *goose.Source) string {
	if f, ok := m.files[source.Version]; ok {
		return f.Name
	}
	return fmt.Sprintf("Go migration %d", source.Version)
}

// run applies the pending migrations. It checks without the lock first, because a start usually finds nothing to do.
func (m *migrator) run(ctx context.Context) error {
	if pending, err := m.pending(ctx); err != nil || len(pending) == 0 && m.allRecorded(ctx) {
		return err
	}
	ctx, unlock, err := m.acquireLock(ctx, m.sql)
	if err != nil {
		return err
	}
	defer unlock()
	if err := m.store.createChecksumTable(ctx, m.sql); err != nil {
		return err
	}
	pending, err := m.pending(ctx)
	if err != nil {
		return err
	}
	if err := m.adopt(ctx); err != nil {
		return err
	}
	if len(pending) == 0 {
		return nil
	}
	m.log.Info("applying migrations", zap.Strings("pending", pending))
	began := time.Now()
	for range pending {
		if err := m.applyNext(ctx); err != nil {
			return err
		}
	}
	m.log.Info("migrations applied", zap.Int("count", len(pending)), zap.Duration("took", time.Since(began)))
	return nil
}

// allRecorded reports whether each applied file has its checksum.
func (m *migrator) allRecorded(ctx context.Context) bool {
	checksums, err := m.store.checksums(ctx, m.sql)
	return err == nil && len(m.unrecorded(ctx, checksums)) == 0
}

// adopt records the checksums of files that goose applied without this package.
func (m *migrator) adopt(ctx context.Context) error {
	checksums, err := m.store.checksums(ctx, m.sql)
	if err != nil {
		return fmt.Errorf("migrate: read the checksums: %w", err)
	}
	for _, f := range m.unrecorded(ctx, checksums) {
		if err := m.store.record(ctx, m.sql, f); err != nil {
			return fmt.Errorf("migrate: record the checksum of %s: %w", f.Name, err)
		}
	}
	return nil
}

func (m *migrator) unrecorded(ctx context.Context, checksums map[int64]string) []file {
	applied, _, err := m.applied(ctx)
	if err != nil {
		return nil
	}
	var files []file
	for version, f := range m.files {
		if applied[version] && checksums[version] == "" {
			files = append(files, f)
		}
	}
	return slices.SortedFunc(slices.Values(files), func(a, b file) int { return cmp.Compare(a.Version, b.Version) })
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
		if cause := context.Cause(ctx); errors.Is(cause, ErrLockLost) {
			return errors.Join(cause, err)
		}
		partial, failed := errors.AsType[*goose.PartialError](err)
		if !failed {
			return fmt.Errorf("migrate: %w", err)
		}
		name := m.nameOf(partial.Failed.Source)
		if !isLockTimeout(err) {
			return m.statementError(ctx, name, partial)
		}
		m.log.Warn("migration waits for a lock", zap.String("file", name), zap.Int("attempt", m.statements.attempts),
			zap.Stringers("blockers", m.statements.blockers))
		if m.hasTransaction(partial.Failed.Source.Version) && m.statements.pause(ctx) {
			m.statements.count = 0
			continue
		}
		partial.Err = &LockTimeoutError{
			Attempts: m.statements.attempts, Elapsed: time.Since(m.statements.began), Holders: m.statements.blockers, err: partial.Err,
		}
		return m.statementError(ctx, name, partial)
	}
}

// hasTransaction reports whether a migration runs in a transaction, and so can be repeated.
func (m *migrator) hasTransaction(version int64) bool {
	f, ok := m.files[version]
	return !ok || f.Transaction
}

func (m *migrator) statementError(ctx context.Context, name string, partial *goose.PartialError) error {
	e := &StatementError{File: name, Line: m.files[partial.Failed.Source.Version].lineOf(m.statements.count), err: partial.Err}
	switch {
	case ctx.Err() != nil:
		e.err = errors.Join(context.Cause(ctx), partial.Err)
		e.hint = "the start's time ended: raise fx.StartTimeout, or run migrations in a job and use the mode check"
	case isCode(partial.Err, activeTransaction):
		e.hint = "put \"-- +goose NO TRANSACTION\" into the file, with this statement alone"
	case !m.hasTransaction(partial.Failed.Source.Version):
		e.hint = "the file runs without a transaction: statements before this one are kept, so undo or complete them before the next start"
		if invalid := m.invalidIndexes(ctx); len(invalid) > 0 {
			e.hint += fmt.Sprintf("; invalid indexes, which an interrupted CREATE INDEX CONCURRENTLY leaves: %v", invalid)
		}
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

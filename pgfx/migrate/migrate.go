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

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
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
	lease      *lease // nil for the advisory lock
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
	if m.files, err = readFiles(files, s.dir); err != nil {
		return nil, err
	}
	if s.hasOwner() {
		if m.login, err = db.Internals().OpenWith(s.ownerConfig(db.Config())); err != nil {
			return nil, fmt.Errorf("migrate: owner: %w", err)
		}
	}
	if err := m.open(); err != nil {
		m.close()
		return nil, err
	}
	return m, nil
}

func (m *migrator) open() (err error) {
	m.statements = &statementRunner{settings: &m.settings, log: m.log, pooler: m.login.Config().Pooler, observer: observer{db: m.login}}
	m.sql = sql.OpenDB(connector{m.login.Internals().Connector("migrate"), m.statements})
	if m.store, err = newStore(m.settings.table, m.files); err != nil {
		return err
	}
	m.useLease()
	m.store.lease, m.statements.lease = m.lease, m.lease
	migrations := slices.Clone(m.settings.goMigrations)
	for _, f := range m.files {
		if slices.ContainsFunc(migrations, func(g *goose.Migration) bool { return g.Version == f.Version }) {
			return fmt.Errorf("migrate: %s and a Go migration have the same version", f.Name)
		}
		migrations = append(migrations, m.migrationOf(f))
	}
	m.provider, err = goose.NewProvider(goose.DialectCustom, m.sql, nil, goose.WithStore(m.store), goose.WithDisableGlobalRegistry(true),
		goose.WithGoMigrations(migrations...), goose.WithAllowOutofOrder(m.settings.outOfOrder))
	if errors.Is(err, goose.ErrNoMigrations) {
		return fmt.Errorf("migrate: no migration in directory %s: add files such as 00001_users.sql, or correct WithDir", m.settings.dir)
	}
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// useLease chooses the table lease behind a transaction pooler.
func (m *migrator) useLease() {
	if m.login.Config().Pooler == pgfx.PoolerTransaction {
		m.lease = newLease(m.sql, m.settings, m.log)
	}
}

func (m *migrator) close() {
	if m.sql != nil {
		_ = m.sql.Close() // its connections are closed in any case
	}
	if m.statements != nil {
		m.statements.observer.close(context.Background())
	}
	if m.login != m.db {
		_ = m.login.Close(context.Background()) // it has no pooled connection, so it cannot block
	}
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
	ctx, unlock, err := m.acquireLock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := m.runLocked(ctx); err != nil {
		return m.lockLost(ctx, err)
	}
	return nil
}

// runLocked applies the pending migrations. The caller holds the lock.
func (m *migrator) runLocked(ctx context.Context) error {
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
		if err := m.store.fenced(ctx, m.sql, func(tx database.DBTxConn) error { return m.store.record(ctx, tx, f) }); err != nil {
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

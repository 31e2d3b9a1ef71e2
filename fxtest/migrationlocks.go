package fxtest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rdsfx-go/rdsfx/internal/goosefile"
	"github.com/rdsfx-go/rdsfx/repo"
)

// EnvUpdate names the variable that makes [LockReport.AssertGolden] write its file instead of comparing it.
const EnvUpdate = "RDSFX_TEST_UPDATE"

// LockReport lists what the statements of migrations lock, rewrite and scan.
type LockReport struct {
	Files []FileLocks
	// Findings are the statements that would block an application, in their order.
	Findings []LockFinding
}

// FileLocks lists the statements of one migration.
type FileLocks struct {
	Name       string
	Statements []StatementLocks
}

// StatementLocks lists the tables that a statement touches. Only tables that existed before the migration are listed, because
// no other session can use the others yet.
type StatementLocks struct {
	// Line is the line of the statement in its file.
	Line int
	SQL  string
	// Took is the duration of the statement on the seeded database. It is not part of the golden file.
	Took   time.Duration
	Tables []TableLocks
}

// TableLocks describes what a statement does to a table.
type TableLocks struct {
	// Table is the name, with its schema unless that is public.
	Table string
	// Modes are the lock modes that the statement acquired, as pg_locks names them, without those that the transaction held
	// before it.
	Modes []string
	// Rewritten reports that the table got another file on disk, Scanned that it was read as a whole.
	Rewritten, Scanned bool
}

// LockFinding is a statement that would block an application.
type LockFinding struct {
	File string
	Line int
	// Problem is the effect on the application, and Fix a safer way to the same schema.
	Problem, Fix string
}

func (f LockFinding) String() string {
	return fmt.Sprintf("%s, line %d: %s; %s", f.File, f.Line, f.Problem, f.Fix)
}

// LockOption configures [MigrationLocks].
type LockOption func(*lockSettings)

type lockSettings struct {
	models    []repo.Model
	maxLocked time.Duration
	database  []Option
}

// WithUsedModels also reports a migration that drops or renames a column of one of the models. Instances of the old version
// still run while it is applied.
func WithUsedModels(models ...repo.Model) LockOption {
	return func(s *lockSettings) { s.models = append(s.models, models...) }
}

// WithMaxLocked also reports a transaction that keeps an ACCESS EXCLUSIVE lock on an existing table for longer than d. Use it with
// seeds of a realistic size, and leave room for a slow test machine. Default: no limit of time.
func WithMaxLocked(d time.Duration) LockOption {
	return func(s *lockSettings) { s.maxLocked = d }
}

// WithDatabase passes options to [DB], such as [Extensions].
func WithDatabase(opts ...Option) LockOption {
	return func(s *lockSettings) { s.database = append(s.database, opts...) }
}

// MigrationLocks applies goose migrations to a fresh database, statement by statement. After each one it reads from pg_locks and
// the catalogs which tables are locked, rewritten and scanned. It observes and does not parse, so it reports only real effects.
//
// seeds may be nil. A file of seeds with the name of a migration runs before that migration: insert some thousand rows there, so
// that durations mean something.
//
// It fails the test for each of these findings:
//
//   - A table is scanned or rewritten while the transaction blocks other sessions of an existing table.
//   - One transaction holds ACCESS EXCLUSIVE locks on several existing tables.
//   - A statement with CONCURRENTLY is in a transaction, where the server refuses it.
//   - A migration removes a column that a model of [WithUsedModels] uses.
//
// A comment "locks-ok: reason" in the statement permits it.
func MigrationLocks(tb testing.TB, files, seeds fs.FS, opts ...LockOption) *LockReport {
	tb.Helper()
	var s lockSettings
	for _, opt := range opts {
		opt(&s)
	}
	report, err := migrationLocks(tb, files, seeds, &s)
	if err != nil {
		tb.Fatalf("fxtest: migration locks: %v", err)
	}
	for _, problem := range report.Findings {
		tb.Errorf("fxtest: %s", problem)
	}
	return report
}

func migrationLocks(tb testing.TB, files, seeds fs.FS, s *lockSettings) (*LockReport, error) {
	tb.Helper()
	migrations, err := goosefile.ReadDir(files)
	if err != nil {
		return nil, err
	}
	seedTexts, err := readSeeds(seeds, migrations)
	if err != nil {
		return nil, err
	}
	ctx := tb.Context()
	conn, err := DB(tb, s.database...).Connect(ctx, "migration-locks")
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // the database is dropped after the test
	report := &LockReport{}
	for _, migration := range migrations {
		if text := seedTexts[migration.Name]; text != "" {
			if _, err := conn.PgConn().Exec(ctx, text).ReadAll(); err != nil {
				return nil, fmt.Errorf("seeds of %w", locateError(migration.Name, text, err))
			}
			if err := cleanSession(ctx, conn); err != nil {
				return nil, fmt.Errorf("seeds of %s: %w", migration.Name, err)
			}
		}
		o := &lockObserver{conn: conn, file: migration, settings: s}
		if err := o.run(ctx); err != nil {
			return nil, err
		}
		report.Files = append(report.Files, o.locks)
		report.Findings = append(report.Findings, o.findings...)
	}
	return report, nil
}

// readSeeds returns the seeds by the name of their migration.
func readSeeds(seeds fs.FS, migrations []goosefile.File) (map[string]string, error) {
	found := map[string]string{}
	if seeds == nil {
		return found, nil
	}
	names, err := fs.Glob(seeds, "*.sql")
	if err != nil {
		return nil, fmt.Errorf("list seeds: %w", err)
	}
	for _, name := range names {
		if !slices.ContainsFunc(migrations, func(f goosefile.File) bool { return f.Name == name }) {
			return nil, fmt.Errorf("seeds %s: no migration has this name", name)
		}
		text, err := fs.ReadFile(seeds, name)
		if err != nil {
			return nil, fmt.Errorf("seeds %s: %w", name, err)
		}
		found[name] = string(text)
	}
	return found, nil
}

// AssertGolden fails the test and returns false unless the report equals the file. Set RDSFX_TEST_UPDATE to write the file.
// Durations are not part of it.
func (r *LockReport) AssertGolden(tb testing.TB, path string) bool {
	tb.Helper()
	if os.Getenv(EnvUpdate) != "" {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o750), os.WriteFile(path, []byte(r.String()), 0o600)); err != nil {
			tb.Fatalf("fxtest: write the golden file: %v", err)
		}
	}
	want, err := os.ReadFile(path) //nolint:gosec // the test's file
	if err != nil {
		tb.Errorf("fxtest: %v; set %s=1 to write it", err, EnvUpdate)
		return false
	}
	if string(want) != r.String() {
		tb.Errorf("fxtest: the locks differ from %s; set %s=1 to accept them\nwant:\n%s\ngot:\n%s", path, EnvUpdate, want, r)
		return false
	}
	return true
}

// String returns the report as text, without durations.
func (r *LockReport) String() string {
	var b strings.Builder
	for _, file := range r.Files {
		b.WriteString(file.Name + "\n")
		for _, statement := range file.Statements {
			fmt.Fprintf(&b, "  line %d: %s\n", statement.Line, oneLine(statement.SQL))
			for _, table := range statement.Tables {
				effects := slices.Clone(table.Modes)
				if table.Rewritten {
					effects = append(effects, "rewritten")
				}
				if table.Scanned {
					effects = append(effects, "scanned")
				}
				fmt.Fprintf(&b, "    %s: %s\n", table.Table, strings.Join(effects, ", "))
			}
		}
	}
	return b.String()
}

// lockObserver applies one migration and observes its statements.
type lockObserver struct {
	conn     *pgx.Conn
	settings *lockSettings
	file     goosefile.File
	locks    FileLocks
	findings []LockFinding

	existing  map[string]tableState // before the migration
	exclusive map[string]time.Time  // tables under ACCESS EXCLUSIVE, and since when
	blocking  bool                  // a lock that blocks writers or readers is held
}

// tableState is a row of the catalogs.
type tableState struct {
	Name  string
	File  int64
	Scans int64
	Modes []string
}

func (o *lockObserver) run(ctx context.Context) error {
	o.locks.Name, o.exclusive = o.file.Name, map[string]time.Time{}
	columns, err := o.usedColumns(ctx)
	if err != nil {
		return err
	}
	if !o.file.Transaction {
		for _, statement := range o.file.Up {
			if err := o.alone(ctx, statement); err != nil {
				return err
			}
		}
		return o.finish(ctx, columns)
	}
	if err := o.exec(ctx, "begin"); err != nil {
		return err
	}
	if o.existing, err = o.tables(ctx); err != nil {
		return err
	}
	state := o.existing
	for _, statement := range o.file.Up {
		if state, err = o.statement(ctx, statement, state); isActiveTransaction(err) {
			o.add(statement.Line, "the statement cannot run inside a transaction", "put it alone into a file with \"-- +goose NO TRANSACTION\"")
			if err := o.runAlone(ctx); err != nil {
				return err
			}
			return o.finish(ctx, columns)
		}
		if err != nil {
			return err
		}
	}
	if err := o.exec(ctx, "commit"); err != nil {
		return err
	}
	o.heldTooLong()
	return o.finish(ctx, columns)
}

// finish cleans the session for the next file and checks which columns the file removed.
func (o *lockObserver) finish(ctx context.Context, columns map[[2]string]bool) error {
	if err := cleanSession(ctx, o.conn); err != nil {
		return fmt.Errorf("%s: %w", o.file.Name, err)
	}
	return o.removedColumns(ctx, columns)
}

// alone runs a statement of a file without a transaction. It has a transaction for itself, so that its locks can be observed, unless
// the server refuses that, as it does for CONCURRENTLY.
func (o *lockObserver) alone(ctx context.Context, statement goosefile.Statement) error {
	if err := o.exec(ctx, "begin"); err != nil {
		return err
	}
	var err error
	if o.existing, err = o.tables(ctx); err != nil {
		return err
	}
	_, err = o.statement(ctx, statement, o.existing)
	if isActiveTransaction(err) {
		if err := o.exec(ctx, "rollback"); err != nil {
			return err
		}
		o.locks.Statements = append(o.locks.Statements, StatementLocks{Line: statement.Line, SQL: statement.SQL})
		return o.exec(ctx, statement.SQL)
	}
	if err != nil {
		return err
	}
	o.exclusive, o.blocking = map[string]time.Time{}, false
	return o.exec(ctx, "commit")
}

// activeTransaction is the SQLSTATE of a statement that cannot run inside a transaction.
const activeTransaction = "25001"

func isActiveTransaction(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pgErr.Code == activeTransaction
}

// runAlone applies the statements of a file without a transaction, and without observing them, so that later files can run.
func (o *lockObserver) runAlone(ctx context.Context) error {
	if err := o.exec(ctx, "rollback"); err != nil {
		return err
	}
	o.locks.Statements = nil
	for _, statement := range o.file.Up {
		o.locks.Statements = append(o.locks.Statements, StatementLocks{Line: statement.Line, SQL: statement.SQL})
		if err := o.exec(ctx, statement.SQL); err != nil {
			return err
		}
	}
	return nil
}

func (o *lockObserver) exec(ctx context.Context, sql string) error {
	_, err := o.conn.PgConn().Exec(ctx, sql).ReadAll()
	return locateError(o.file.Name, sql, err)
}

// tables returns the state of all tables of the application: the locks that this session holds, and the scans of its transaction.
func (o *lockObserver) tables(ctx context.Context) (map[string]tableState, error) {
	rows, err := o.conn.Query(ctx, `select
			case when n.nspname = 'public' then quote_ident(c.relname) else format('%I.%I', n.nspname, c.relname) end,
			coalesce(pg_relation_filenode(c.oid), 0)::int8, coalesce(pg_stat_get_xact_numscans(c.oid), 0),
			coalesce(array_agg(distinct l.mode) filter (where l.mode is not null and l.mode <> 'AccessShareLock'), '{}')
		from pg_class c join pg_namespace n on n.oid = c.relnamespace
			left join pg_locks l on l.pid = pg_backend_pid() and l.locktype = 'relation' and l.relation = c.oid and l.granted
			and l.database = (select oid from pg_database where datname = current_database())
		where c.relkind in ('r', 'p', 'm') and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
			and c.relname <> 'goose_db_version'
		group by c.oid, n.nspname`)
	if err != nil {
		return nil, fmt.Errorf("%s: read the locks: %w", o.file.Name, err)
	}
	states, err := pgx.CollectRows(rows, pgx.RowToStructByPos[tableState])
	if err != nil {
		return nil, fmt.Errorf("%s: read the locks: %w", o.file.Name, err)
	}
	found := make(map[string]tableState, len(states))
	for _, state := range states {
		found[state.Name] = state
	}
	return found, nil
}

// statement runs one statement and returns the state of the tables after it.
func (o *lockObserver) statement(ctx context.Context, s goosefile.Statement, before map[string]tableState) (map[string]tableState, error) {
	began := time.Now()
	if _, err := o.conn.PgConn().Exec(ctx, s.SQL).ReadAll(); err != nil {
		return nil, fmt.Errorf("%s, line %d: %q: %w", o.file.Name, s.Line, lineAt(s.SQL, 0), err)
	}
	locks := StatementLocks{Line: s.Line, SQL: s.SQL, Took: time.Since(began)}
	after, err := o.tables(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(o.existing)) {
		was, is := before[name], after[name]
		table := TableLocks{
			Table: name, Rewritten: is.File != 0 && is.File != was.File, Scanned: is.Scans > was.Scans,
			Modes: slices.DeleteFunc(slices.Clone(is.Modes), func(mode string) bool { return slices.Contains(was.Modes, mode) }),
		}
		if len(table.Modes) == 0 && !table.Rewritten && !table.Scanned {
			continue
		}
		locks.Tables = append(locks.Tables, table)
	}
	o.locks.Statements = append(o.locks.Statements, locks)
	o.assess(s, locks, began)
	return after, nil
}

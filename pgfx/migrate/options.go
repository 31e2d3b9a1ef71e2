package migrate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// Mode selects what a start does about pending migrations.
type Mode string

const (
	// ModeRun applies them. It is the default.
	ModeRun Mode = "run"
	// ModeCheck fails with a [*PendingError] when there are any, and changes nothing.
	ModeCheck Mode = "check"
	// ModeOff does nothing.
	ModeOff Mode = "off"
)

const (
	defaultTable           = "goose_db_version"
	defaultLockWait        = 5 * time.Minute
	defaultLockTimeout     = 500 * time.Millisecond
	defaultDataLockTimeout = 30 * time.Second
	defaultRetryFor        = time.Minute
	defaultProgress        = 10 * time.Second
)

// Option configures the migrations of one database.
type Option struct{ apply func(*settings) error }

type settings struct {
	database        string
	dir             string
	mode            Mode
	table           string
	goMigrations    []*goose.Migration
	outOfOrder      bool
	owner           pgfx.Config
	lockWait        time.Duration
	lockTimeout     time.Duration
	dataLockTimeout time.Duration
	retryFor        time.Duration
	progress        time.Duration
	lease           time.Duration
}

// WithDatabase selects the database for [Module] and [Step], as rdsfx.ModuleFor names it. Default: "", the default database.
func WithDatabase(name string) Option {
	return Option{func(s *settings) error { s.database = name; return nil }}
}

// WithDir selects a directory of the file system. Default: its root.
func WithDir(dir string) Option {
	return Option{func(s *settings) error {
		if !fs.ValidPath(dir) {
			return fmt.Errorf("migrate: WithDir(%q): use a path of io/fs, relative and inside the file system", dir)
		}
		s.dir = dir
		return nil
	}}
}

// WithMode sets the mode, for example from the application's own configuration. It wins over the environment. Default, and for "":
// the variable DATABASE_MIGRATE_MODE, else [ModeRun].
func WithMode(mode Mode) Option {
	return Option{func(s *settings) error {
		if mode != "" && !mode.valid() {
			return fmt.Errorf("migrate: WithMode(%q): use one of run, check, off", mode)
		}
		s.mode = mode
		return nil
	}}
}

func (m Mode) valid() bool { return slices.Contains([]Mode{ModeRun, ModeCheck, ModeOff}, m) }

// WithTable sets the version table, optionally with its schema. Default: goose_db_version, as in goose. The checksums are kept
// in a table of this name with "_checksums" appended.
func WithTable(name string) Option {
	return Option{func(s *settings) error {
		if strings.TrimSpace(name) == "" {
			return errors.New("migrate: WithTable: use a table name")
		}
		s.table = name
		return nil
	}}
}

// WithGoMigrations adds migrations written in Go beside the files (goose.NewGoMigration). Migrations registered globally with
// goose.AddMigration are not used.
func WithGoMigrations(migrations ...*goose.Migration) Option {
	return Option{func(s *settings) error { s.goMigrations = append(s.goMigrations, migrations...); return nil }}
}

// WithOutOfOrder permits a pending migration whose version is below the newest applied one, as it appears when branches are
// merged. Default: an [*OrderError].
func WithOutOfOrder() Option {
	return Option{func(s *settings) error { s.outOfOrder = true; return nil }}
}

// WithOwner sets the login user and, if it differs, the address for migrations. Fields that are set replace those of the
// database's Config; a URL or Host replaces its whole address, with its Pooler. The environment variables have the prefix
// DATABASE_MIGRATE_, such as DATABASE_MIGRATE_USERNAME and DATABASE_MIGRATE_PASSWORD_FILE. Default: the application's own login user.
func WithOwner(cfg pgfx.Config) Option {
	return Option{func(s *settings) error { s.owner = cfg; return nil }}
}

// WithLockWait sets how long to wait for another instance that migrates. Then the error is a [*LockedError]. Default: 5 min.
func WithLockWait(d time.Duration) Option {
	return duration("WithLockWait", d, func(s *settings) { s.lockWait = d })
}

// WithLockTimeout sets lock_timeout for one attempt of a schema change, and how long attempts are repeated. Then the error is a
// [*LockTimeoutError]. Default: 500 ms and 1 min. Statements with CONCURRENTLY have no lock_timeout.
func WithLockTimeout(attempt, retryFor time.Duration) Option {
	return Option{func(s *settings) error {
		if attempt <= 0 || retryFor <= 0 {
			return fmt.Errorf("migrate: WithLockTimeout(%v, %v): use positive durations", attempt, retryFor)
		}
		s.lockTimeout, s.retryFor = attempt, retryFor
		return nil
	}}
}

// WithDataLockTimeout sets lock_timeout for statements that read or write rows, which may wait longer without blocking
// readers. Default: 30 s.
func WithDataLockTimeout(d time.Duration) Option {
	return duration("WithDataLockTimeout", d, func(s *settings) { s.dataLockTimeout = d })
}

// WithProgress sets how often a running statement and a wait for the migration lock are logged. Default: every 10 s.
func WithProgress(interval time.Duration) Option {
	return duration("WithProgress", interval, func(s *settings) { s.progress = interval })
}

func duration(name string, d time.Duration, set func(*settings)) Option {
	return Option{func(s *settings) error {
		if d <= 0 {
			return fmt.Errorf("migrate: %s(%v): use a positive duration", name, d)
		}
		set(s)
		return nil
	}}
}

func newSettings(opts []Option) (settings, error) {
	s := settings{
		dir: ".", table: defaultTable, lockWait: defaultLockWait, lockTimeout: defaultLockTimeout,
		dataLockTimeout: defaultDataLockTimeout, retryFor: defaultRetryFor, progress: defaultProgress, lease: defaultLease,
	}
	var errs []error
	for _, opt := range opts {
		if opt.apply != nil {
			errs = append(errs, opt.apply(&s))
		}
	}
	return s, errors.Join(errs...)
}

// readEnvironment completes the settings with the variables of a database, whose names begin with prefix.
func (s *settings) readEnvironment(prefix string) error {
	prefix += "MIGRATE_"
	if s.mode == "" {
		s.mode = Mode(os.Getenv(prefix + "MODE"))
	}
	if s.mode == "" {
		s.mode = ModeRun
	}
	if !s.mode.valid() {
		return fmt.Errorf("migrate: %sMODE is %q: set it to run, check or off", prefix, s.mode)
	}
	if s.owner.URL == "" && s.owner.Host == "" && s.owner.Username == "" {
		owner, err := pgfx.ConfigFromEnvPrefix(prefix)
		if err != nil {
			return err
		}
		s.owner = owner
	}
	return nil
}

// hasOwner reports whether migrations use another login than the application.
func (s *settings) hasOwner() bool {
	return s.owner.URL != "" || s.owner.Host != "" || s.owner.Username != ""
}

// ownerConfig returns base with the owner's login and address.
func (s *settings) ownerConfig(base pgfx.Config) pgfx.Config {
	c, o := base, s.owner
	if o.URL != "" || o.Host != "" {
		c.URL, c.Host, c.Port, c.Username, c.Password, c.PasswordFile = o.URL, o.Host, o.Port, o.Username, o.Password, o.PasswordFile
		c.Database, c.Pooler = o.Database, o.Pooler
		if o.URL == "" && o.Database == "" {
			c.Database = base.Database
		}
		return c
	}
	c.Username, c.Password, c.PasswordFile = o.Username, o.Password, o.PasswordFile
	return c
}

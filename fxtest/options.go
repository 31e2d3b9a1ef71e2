package fxtest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// Option configures a test's database or application.
type Option func(*settings) error

type settings struct {
	url        string
	config     pgfx.Config
	pool       []pgfx.Option
	fx         []fx.Option
	extensions []string
	migrations []migration
	seeds      []migration
	salt       string
	named      map[string]settings // of the databases of rdsfx.ModuleFor
}

// mustCollect applies the options and fails the test if one of them is invalid.
func mustCollect(tb testing.TB, opts []Option) settings {
	tb.Helper()
	s, err := collect(opts)
	if err != nil {
		tb.Fatalf("fxtest: %v", err)
	}
	return s
}

func collect(opts []Option) (settings, error) {
	var s settings
	for _, opt := range opts {
		if opt == nil {
			continue
		}
		if err := opt(&s); err != nil {
			return settings{}, err
		}
	}
	if s.url != "" && s.hasTemplate() {
		return settings{}, errors.New("at: an existing database has no template for migrations, seeds and extensions: give them to URL instead, or apply them to the database")
	}
	return s, nil
}

// hasTemplate reports whether the settings describe more than an empty database.
func (s settings) hasTemplate() bool { return len(s.migrations)+len(s.seeds)+len(s.extensions) > 0 }

// At makes [DB] and [New] use the existing database at this URL instead of creating one. Use it with proxies and servers from
// package faults. It can't be combined with options that change the template.
func At(url string) Option {
	return func(s *settings) error {
		if url == "" {
			return errors.New("at: the URL is empty")
		}
		s.url = url
		return nil
	}
}

// Config sets the pool's configuration and replaces one that the application supplies. Its URL is ignored: the URL is always
// that of the test's database.
func Config(cfg pgfx.Config) Option {
	return func(s *settings) error {
		s.config = cfg
		return nil
	}
}

// Pool adds options to the pool, such as tracers, types or the Option of a faults.Resolver.
func Pool(opts ...pgfx.Option) Option {
	return func(s *settings) error {
		s.pool = append(s.pool, opts...)
		return nil
	}
}

// Fx adds options to the application: the modules under test, fx.Populate, fx.Replace.
func Fx(opts ...fx.Option) Option {
	return func(s *settings) error {
		s.fx = append(s.fx, opts...)
		return nil
	}
}

// Migrations applies the *.sql files of a directory, in the order of their names, to the template of the test's database.
// Each file is sent as one script. PostgreSQL runs it in one transaction unless the script controls transactions itself.
//
// Files in goose's format run in the order of their versions, and only the part after "-- +goose Up". They run in a
// transaction unless they contain "-- +goose NO TRANSACTION". Package pgfx/migrate applies the same files in production.
//
// Each file starts with a clean session. Of the commands of psql, \restrict and \unrestrict are skipped, so dumps of pg_dump
// run unchanged; others are an error. A role that exists is left as it is, because roles belong to the server and another
// template may have created it. Settings of the database (ALTER DATABASE … SET) and privileges on it apply to the test's
// database as well.
//
// Subdirectories are ignored; select one with fs.Sub. Files named *.down.sql are ignored as well. A file with the
// up and the down migration of another tool (dbmate, sql-migrate, tern) is an error. Call that tool's runner in [Migrate].
func Migrations(files fs.FS) Option {
	return func(s *settings) error {
		found, err := readScripts("migrations", files)
		s.migrations = append(s.migrations, found...)
		return err
	}
}

// Seeds applies the *.sql files of a directory after all migrations, regardless of the order of the options.
func Seeds(files fs.FS) Option {
	return func(s *settings) error {
		found, err := readScripts("seeds", files)
		s.seeds = append(s.seeds, found...)
		return err
	}
}

// SQL applies a script to the template: a schema or seeds short enough to be part of the test.
func SQL(text string) Option {
	return func(s *settings) error {
		m, err := script(fmt.Sprintf("SQL option %d", len(s.migrations)+1), text)
		s.migrations = append(s.migrations, m)
		return err
	}
}

// Migrate applies a function to the template, for example the runner of a migration tool. The template is identified by
// version, so version must change whenever the effect of run changes.
func Migrate(version string, run func(ctx context.Context, conn *pgx.Conn) error) Option {
	return func(s *settings) error {
		if version == "" || run == nil {
			return errors.New("migrate: give a version, which changes with the effect of the function, and a function")
		}
		name := "Migrate(" + version + ")"
		s.migrations = append(s.migrations, migration{name: name, content: version, run: func(ctx context.Context, conn *pgx.Conn) error {
			return locateError(name, "", run(ctx, conn))
		}})
		return nil
	}
}

// ForDatabase describes the database of rdsfx.ModuleFor(name) with the options for databases: [Migrations], [Seeds], [SQL],
// [Config], [Pool], [At] and so on. Without it, the named database is empty. [New] fails if the application has no such database.
func ForDatabase(name string, opts ...Option) Option {
	return func(s *settings) error {
		database, err := collect(opts)
		switch {
		case err != nil:
			return fmt.Errorf("ForDatabase(%q): %w", name, err)
		case name == "":
			return errors.New("ForDatabase: the name is empty; pass the options of the default database directly")
		case len(database.fx) > 0 || len(database.named) > 0:
			return fmt.Errorf("ForDatabase(%q): it describes one database; pass Fx and ForDatabase to New", name)
		}
		if s.named == nil {
			s.named = make(map[string]settings)
		}
		if _, again := s.named[name]; again {
			return fmt.Errorf("ForDatabase(%q): given twice; combine the options", name)
		}
		s.named[name] = database
		return nil
	}
}

// Extensions creates extensions in the template, before the migrations.
func Extensions(names ...string) Option {
	return func(s *settings) error {
		s.extensions = append(s.extensions, names...)
		return nil
	}
}

// Salt selects a separate template even if all other options are equal. Use it to keep the templates of two suites apart,
// or when the effect of a function given to [Migrate] has changed.
func Salt(salt string) Option {
	return func(s *settings) error {
		s.salt = salt
		return nil
	}
}

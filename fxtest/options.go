package fxtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// Option shapes a test's database or application.
type Option func(*settings) error

type settings struct {
	config     pgfx.Config
	fx         []fx.Option
	migrations []migration
	seeds      []migration
	extensions []string
	salt       string
	pool       []pgfx.Option
	at         string
}

// migration is one part of a template: what it does, and what its text is, so that a change makes another template.
type migration struct {
	name string
	hash string
	run  func(ctx context.Context, conn *pgx.Conn) error
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
	if s.at != "" && s.hasTemplate() {
		return settings{}, errors.New("At leads to a database that exists: migrations, seeds and extensions can't be applied to it; give them to URL, or run them there")
	}
	return s, nil
}

// hasTemplate reports whether the settings ask for more than an empty database.
func (s settings) hasTemplate() bool { return len(s.migrations)+len(s.seeds)+len(s.extensions) > 0 }

// At makes [DB] and [New] use the existing database at this address instead of creating one, for example one behind a
// proxy or on a server from package faults. It can't be combined with options that change the template.
func At(address string) Option {
	return func(s *settings) error {
		if address == "" {
			return errors.New("at: the address is empty")
		}
		s.at = address
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

// Fx adds options to the application: the modules under test, fx.Populate for what the test wants, fx.Replace.
func Fx(opts ...fx.Option) Option {
	return func(s *settings) error {
		s.fx = append(s.fx, opts...)
		return nil
	}
}

// Config sets everything of the pool's configuration but the address, which is always the test's own database.
func Config(cfg pgfx.Config) Option {
	return func(s *settings) error {
		s.config = cfg
		return nil
	}
}

// Migrations applies the *.sql files of a directory, in the order of their names, to the template that the test's database
// is cloned from. Each file is sent as one script, which PostgreSQL runs as one transaction unless it says otherwise.
// Subdirectories are not read; use fs.Sub for one. Files that are named *.down.sql are left out. A file that holds the way up
// and the way back, as goose, dbmate, sql-migrate and tern have them, is an error: give the tool's own runner to [Migrate].
func Migrations(files fs.FS) Option {
	return func(s *settings) error {
		found, err := scripts("migrations", files)
		s.migrations = append(s.migrations, found...)
		return err
	}
}

// Seeds applies the *.sql files of a directory after all migrations, wherever the option stands.
func Seeds(files fs.FS) Option {
	return func(s *settings) error {
		found, err := scripts("seeds", files)
		s.seeds = append(s.seeds, found...)
		return err
	}
}

// wayBack is the line behind which files of migration tools undo what is in front of it.
var wayBack = regexp.MustCompile(`(?mi)^[ \t]*--[ \t]*(\+goose[ \t]+down|\+migrate[ \t]+down|migrate:down|-- create above / drop below)\b`)

func scripts(what string, files fs.FS) ([]migration, error) {
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if len(names) == 0 {
		if _, err := fs.ReadDir(files, "."); err != nil {
			return nil, fmt.Errorf("%s: the directory can't be read: %w", what, err)
		}
		return nil, fmt.Errorf("%s: there is no *.sql file in the directory", what)
	}
	found := make([]migration, 0, len(names))
	for _, name := range names { // fs.Glob sorts
		if strings.HasSuffix(name, ".down.sql") {
			continue
		}
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		if line := wayBack.Find(text); line != nil {
			return nil, fmt.Errorf("%s: %s goes up and down again (%s): run the migration tool's own runner with Migrate",
				what, name, bytes.TrimSpace(line))
		}
		found = append(found, script(name, strings.TrimPrefix(string(text), "\ufeff")))
	}
	return found, nil
}

// SQL applies a script to the template: a schema or seeds that are short enough to stand in the test.
func SQL(text string) Option {
	return func(s *settings) error {
		s.migrations = append(s.migrations, script(fmt.Sprintf("SQL option %d", len(s.migrations)+1), text))
		return nil
	}
}

// Migrate applies a function to the template: a migration tool's own runner. version must change whenever what the
// function does changes, for it is all that is known of it.
func Migrate(version string, run func(ctx context.Context, conn *pgx.Conn) error) Option {
	return func(s *settings) error {
		if version == "" || run == nil {
			return errors.New("migrate: give a version, which changes with what the function does, and a function")
		}
		name := "Migrate(" + version + ")"
		s.migrations = append(s.migrations, migration{name: name, hash: version, run: func(ctx context.Context, conn *pgx.Conn) error {
			return describe(name, "", run(ctx, conn))
		}})
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

// Salt makes a template of its own although everything else is the same: for a function given to Migrate whose effect has
// changed, or to keep the templates of two suites apart.
func Salt(salt string) Option {
	return func(s *settings) error {
		s.salt = salt
		return nil
	}
}

func script(name, text string) migration {
	return migration{name: name, hash: text, run: func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.PgConn().Exec(ctx, text).ReadAll()
		return describe(name, text, err)
	}}
}

// describe adds to a script's error where in the text it stands.
func describe(name, text string, err error) error {
	if err == nil {
		return nil
	}
	pg := pgError(err)
	if pg == nil || pg.Position <= 0 {
		return fmt.Errorf("%s: %w", name, err)
	}
	runes := []rune(text)
	if len(runes) == 0 { // the statement is a function's own
		return fmt.Errorf("%s: %w", name, err)
	}
	at := min(int(pg.Position)-1, len(runes))
	before := string(runes[:at])
	line := strings.Count(before, "\n") + 1
	return fmt.Errorf("%s, line %d: %q: %w", name, line, statementAt(string(runes), len(before)), err)
}

// shownStatement is how much of a failing statement an error shows.
const shownStatement = 200

// statementAt returns the line of the text that holds the byte at offset.
func statementAt(text string, offset int) string {
	start := strings.LastIndexByte(text[:offset], '\n') + 1
	end := len(text)
	if i := strings.IndexByte(text[offset:], '\n'); i >= 0 {
		end = offset + i
	}
	line := strings.TrimSpace(text[start:end])
	if len(line) > shownStatement {
		line = strings.ToValidUTF8(line[:shownStatement], "") + "…"
	}
	return line
}

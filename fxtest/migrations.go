package fxtest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rdsfx-go/rdsfx/internal/goosefile"
	"github.com/rdsfx-go/rdsfx/internal/sqltext"
)

// migration is one step in building a template. Its name and content are part of the template's identity.
type migration struct {
	name    string
	content string
	run     func(ctx context.Context, conn *pgx.Conn) error
}

func script(name, text string) (migration, error) {
	cleaned, err := sqltext.RemovePsqlCommands(strings.TrimPrefix(text, "\ufeff"))
	if err != nil {
		return migration{}, fmt.Errorf("%s: %w", name, err)
	}
	cleaned = keepRoles(cleaned)
	return migration{name: name, content: text, run: func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.PgConn().Exec(ctx, cleaned).ReadAll()
		return locateError(name, cleaned, err)
	}}, nil
}

// downMarker matches the line that starts the down migration in files of migration tools.
var downMarker = regexp.MustCompile(`(?mi)^[ \t]*--[ \t]*(\+migrate[ \t]+down|migrate:down|-- create above / drop below)\b`)

// gooseScript runs the up part of a goose migration as goose does: in one transaction, or statement by statement.
func gooseScript(file goosefile.File, text string) migration {
	content := []string{text}
	for _, statement := range file.Up { // variables of the environment are replaced
		content = append(content, statement.SQL)
	}
	return migration{name: file.Name, content: strings.Join(content, "\n"), run: func(ctx context.Context, conn *pgx.Conn) error {
		if !file.Transaction {
			return runStatements(ctx, conn, file)
		}
		return pgx.BeginFunc(ctx, conn, func(pgx.Tx) error { return runStatements(ctx, conn, file) })
	}}
}

func runStatements(ctx context.Context, conn *pgx.Conn, file goosefile.File) error {
	for _, statement := range file.Up {
		if _, err := conn.PgConn().Exec(ctx, keepRoles(statement.SQL)).ReadAll(); err != nil {
			return fmt.Errorf("%s, line %d: %q: %w", file.Name, statement.Line, lineAt(statement.SQL, 0), err)
		}
	}
	return nil
}

// readScripts returns the *.sql files of a directory, except down migrations, in the order of their names.
func readScripts(option string, files fs.FS) ([]migration, error) {
	names, err := fs.Glob(files, "*.sql") // sorted
	if err != nil {
		return nil, fmt.Errorf("%s: %w", option, err)
	}
	if len(names) == 0 {
		if _, err := fs.ReadDir(files, "."); err != nil {
			return nil, fmt.Errorf("%s: read the directory: %w", option, err)
		}
		return nil, fmt.Errorf("%s: no *.sql file in the directory", option)
	}
	found := make([]migration, 0, len(names))
	goose := map[string]int64{} // versions by name
	for _, name := range names {
		if strings.HasSuffix(name, ".down.sql") {
			continue
		}
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", option, err)
		}
		if goosefile.HasAnnotations(string(text)) {
			file, err := goosefile.Parse(name, string(text))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", option, err)
			}
			goose[name] = file.Version
			found = append(found, gooseScript(file, string(text)))
			continue
		}
		if marker := downMarker.Find(text); marker != nil {
			return nil, fmt.Errorf("%s: %s contains a down migration (%s): call the migration tool's own runner in Migrate",
				option, name, bytes.TrimSpace(marker))
		}
		m, err := script(name, string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", option, err)
		}
		found = append(found, m)
	}
	if len(goose) == len(found) { // goose orders by version and not by name
		slices.SortStableFunc(found, func(a, b migration) int { return cmp.Compare(goose[a.name], goose[b.name]) })
	}
	return found, nil
}

// locateError adds the script's name to its error and, if the server reported a position, the line with its text.
func locateError(name, text string, err error) error {
	if err == nil {
		return nil
	}
	runes := []rune(text)
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || pg.Position <= 0 || len(runes) == 0 {
		return fmt.Errorf("%s: %w", name, err)
	}
	before := string(runes[:min(int(pg.Position)-1, len(runes))]) // Position counts characters from 1
	number := strings.Count(before, "\n") + 1
	return fmt.Errorf("%s, line %d: %q: %w", name, number, lineAt(string(runes), len(before)), err)
}

// lineAt returns the line of the text that contains the byte at offset, shortened to 200 bytes.
func lineAt(text string, offset int) string {
	const maxLength = 200
	start := strings.LastIndexByte(text[:offset], '\n') + 1
	rest, _, _ := strings.Cut(text[start:], "\n")
	line := strings.TrimSpace(rest)
	if len(line) > maxLength {
		line = strings.ToValidUTF8(line[:maxLength], "") + "…"
	}
	return line
}

// Package goosefile reads SQL migrations in goose's format: the part that migrates up, statement by statement.
package goosefile

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/rdsfx-go/rdsfx/internal/sqltext"
)

// File is one migration.
type File struct {
	Name string
	// Version is the number before the first underscore of the name.
	Version int64
	// Transaction reports whether the statements run in one transaction.
	Transaction bool
	// Up are the statements that migrate up.
	Up []Statement
}

// ErrNoFiles is returned by [ReadDir] for a directory without *.sql files.
var ErrNoFiles = errors.New("no *.sql file in the directory")

// Statement is one statement and the line at which it begins.
type Statement struct {
	Line int
	SQL  string
}

var annotation = regexp.MustCompile(`^--\s*\+goose\s+(\w+(?:[ \t]+\w+)?)\s*$`)

// HasAnnotations reports whether a text is a migration in goose's format.
func HasAnnotations(text string) bool {
	for line := range strings.SplitSeq(text, "\n") {
		if annotation.MatchString(strings.TrimSpace(line)) {
			return true
		}
	}
	return false
}

// ReadDir reads the *.sql files at the root of a file system, in the order of their versions. It reports all mistakes at once.
func ReadDir(files fs.FS) ([]File, error) {
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		return nil, fmt.Errorf("list migrations: %w", err)
	}
	if len(names) == 0 {
		if _, err := fs.ReadDir(files, "."); err != nil {
			return nil, fmt.Errorf("list migrations: %w", err)
		}
		return nil, ErrNoFiles
	}
	var read []File
	var errs []error
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
			continue
		}
		f, err := Parse(name, string(text))
		errs = append(errs, err)
		read = append(read, f)
	}
	slices.SortStableFunc(read, func(a, b File) int { return cmp.Compare(a.Version, b.Version) })
	for i := 1; i < len(read); i++ {
		if read[i].Version == read[i-1].Version && read[i].Version > 0 {
			errs = append(errs, fmt.Errorf("%s and %s have the same version", read[i-1].Name, read[i].Name))
		}
	}
	return read, errors.Join(errs...)
}

// Parse reads one migration.
func Parse(name, text string) (File, error) {
	f := File{Name: name, Transaction: true}
	prefix, _, _ := strings.Cut(name[strings.LastIndexByte(name, '/')+1:], "_")
	version, err := strconv.ParseInt(prefix, 10, 64)
	if err != nil || version <= 0 {
		return f, fmt.Errorf("%s has no version; name it like 00001_%s", name, name)
	}
	f.Version = version
	text, err = sqltext.RemovePsqlCommands(strings.TrimPrefix(text, "\ufeff"))
	if err != nil {
		return f, fmt.Errorf("%s: %w", name, err)
	}
	p := parser{file: &f, text: text}
	if err := p.parse(); err != nil {
		return f, fmt.Errorf("%s: %w", name, err)
	}
	if len(f.Up) == 0 {
		return f, fmt.Errorf("%s has no statement after \"-- +goose Up\": put this line before its statements", name)
	}
	return f, nil
}

// parser splits the up part into statements. A semicolon ends one, except between StatementBegin and StatementEnd.
type parser struct {
	file  *File
	text  string
	start int // of the current statement, -1 before its first token
	up    bool
	block bool
	env   bool // variables of the environment are replaced
}

func (p *parser) parse() error {
	p.start = -1
	lexer := sqltext.NewLexer(p.text)
	for token, ok := lexer.Next(); ok; token, ok = lexer.Next() {
		if token.Unterminated {
			return fmt.Errorf("line %d: a quoted text or comment has no end", p.line(token.Pos))
		}
		annotated, err := p.annotated(token)
		switch {
		case err != nil:
			return err
		case annotated:
		case token.Kind == sqltext.Space, !p.up:
		case token.Kind == sqltext.Comment && p.start < 0:
			p.start = token.Pos // a comment in front belongs to the statement
		case token.Kind == sqltext.Symbol && token.Text == ";" && !p.block:
			if err := p.end(token.Pos); err != nil {
				return err
			}
		case p.start < 0:
			p.start = token.Pos
		}
	}
	if p.block {
		return fmt.Errorf("line %d: \"-- +goose StatementEnd\" is missing", p.line(len(p.text)-1))
	}
	return p.unfinished(len(p.text))
}

// annotated handles a goose annotation and reports whether the token is one.
func (p *parser) annotated(token sqltext.Token) (bool, error) {
	if token.Kind != sqltext.Comment {
		return false, nil
	}
	match := annotation.FindStringSubmatch(strings.TrimSpace(token.Text))
	if match == nil {
		return false, nil
	}
	switch strings.ToLower(strings.Join(strings.Fields(match[1]), " ")) {
	case "up":
		p.up, p.start = true, -1
	case "down":
		err := p.unfinished(token.Pos)
		p.up, p.start = false, -1
		return true, err
	case "no transaction":
		p.file.Transaction = false
	case "statementbegin":
		p.block, p.start = true, -1
	case "statementend":
		p.block = false
		if p.up {
			return true, p.end(token.Pos)
		}
	case "envsub on":
		p.env = true
	case "envsub off":
		p.env = false
	default:
		return true, fmt.Errorf("line %d: goose has no annotation %q", p.line(token.Pos), match[1])
	}
	return true, nil
}

// unfinished returns an error if a statement without a semicolon ends at a position.
func (p *parser) unfinished(at int) error {
	if rest := strings.TrimSpace(p.rest(at)); p.up && rest != "" && !isComment(rest) {
		return fmt.Errorf("line %d: the last statement has no semicolon", p.line(p.start+leadingComments(p.rest(at))))
	}
	return nil
}

// end adds the statement that ends at a position.
func (p *parser) end(at int) error {
	sql := strings.TrimSpace(p.rest(at))
	begin := p.start + len(p.rest(at)) - len(strings.TrimLeft(p.rest(at), " \t\r\n"))
	p.start = -1
	if sql == "" || isComment(sql) {
		return nil
	}
	line := p.line(begin + leadingComments(sql))
	sql = strings.TrimSuffix(sql, ";")
	if p.env {
		var err error
		if sql, err = expand(sql); err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
	}
	p.file.Up = append(p.file.Up, Statement{Line: line, SQL: sql})
	return nil
}

var variable = regexp.MustCompile(`\$\$|\$(?:([A-Za-z_]\w*)|\{(\w+)(:?-[^}]*)?\})`)

// expand replaces $NAME, ${NAME} and ${NAME:-default} by variables of the environment.
func expand(sql string) (string, error) {
	var errs []error
	expanded := variable.ReplaceAllStringFunc(sql, func(text string) string {
		if text == "$$" {
			return text
		}
		match := variable.FindStringSubmatch(text)
		value, ok := os.LookupEnv(match[1] + match[2])
		fallback := strings.TrimPrefix(strings.TrimPrefix(match[3], ":"), "-")
		switch {
		case ok && (value != "" || !strings.HasPrefix(match[3], ":")):
			return value
		case match[3] == "":
			errs = append(errs, fmt.Errorf("the environment variable %s is not set", match[1]+match[2]))
		}
		return fallback
	})
	return expanded, errors.Join(errs...)
}

func (p *parser) rest(end int) string {
	if p.start < 0 {
		return ""
	}
	return p.text[p.start:end]
}

func (p *parser) line(at int) int { return 1 + strings.Count(p.text[:max(0, at)], "\n") }

// leadingComments returns the length of the comments and the space in front of a statement.
func leadingComments(sql string) int {
	lexer := sqltext.NewLexer(sql)
	for token, ok := lexer.Next(); ok; token, ok = lexer.Next() {
		if token.Kind != sqltext.Comment && token.Kind != sqltext.Space {
			return token.Pos
		}
	}
	return len(sql)
}

// isComment reports whether a text has nothing but comments.
func isComment(sql string) bool { return leadingComments(sql) == len(sql) }

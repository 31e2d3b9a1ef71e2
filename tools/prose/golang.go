package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

var (
	testName  = regexp.MustCompile(`^Test[A-Z][A-Za-z0-9]*_[A-Z][A-Za-z0-9]*$`)
	suffixes  = regexp.MustCompile(`(?:_test|_internal|_export|_linux|_darwin|_windows|_unix|_other|_otherunix)+$`)
	directive = regexp.MustCompile(`^//(?:go:|nolint|line |export |#)`)
	output    = regexp.MustCompile(`^\s*(?i:unordered )?(?i:output):`)
)

const maxTestName = 60

// goFile checks a Go file.
func (c *checker) goFile(source []byte) error {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, c.file, source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return fmt.Errorf("parse: %w", err)
	}
	base := suffixes.ReplaceAllString(strings.TrimSuffix(path.Base(c.file), ".go"), "")
	if instead, ok := c.rules.files[base]; ok {
		c.reportf(1, "file", base, "file %s: name it for its concept (%s)", path.Base(c.file), instead)
	}
	for _, group := range file.Comments {
		c.comments(fset, group)
	}
	imports := map[*ast.BasicLit]bool{}
	for _, spec := range file.Imports {
		imports[spec.Path] = true
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BasicLit:
			if text, err := strconv.Unquote(n.Value); err == nil && n.Kind == token.STRING && !imports[n] && strings.Contains(text, " ") {
				c.words(fset.Position(n.Pos()).Line, text)
			}
		case *ast.FuncDecl:
			c.testName(fset.Position(n.Pos()).Line, n)
		}
		for _, name := range declared(n) {
			c.identifier(fset.Position(name.Pos()).Line, name.Name)
		}
		field, ok := n.(*ast.Field)
		return !ok || field.Tag == nil // a tag is no prose
	})
	return nil
}

// declared returns the identifiers that a node declares.
func declared(n ast.Node) []*ast.Ident {
	switch n := n.(type) {
	case *ast.FuncDecl:
		return []*ast.Ident{n.Name}
	case *ast.TypeSpec:
		return []*ast.Ident{n.Name}
	case *ast.Field: // of structs and interfaces, parameters, results, receivers
		return n.Names
	case *ast.ValueSpec:
		return n.Names
	case *ast.AssignStmt:
		if n.Tok == token.DEFINE {
			return identifiers(n.Lhs...)
		}
	case *ast.RangeStmt:
		if n.Tok == token.DEFINE {
			return identifiers(n.Key, n.Value)
		}
	}
	return nil
}

func identifiers(expressions ...ast.Expr) []*ast.Ident {
	var found []*ast.Ident
	for _, e := range expressions {
		if name, ok := e.(*ast.Ident); ok {
			found = append(found, name)
		}
	}
	return found
}

func (c *checker) testName(line int, f *ast.FuncDecl) {
	name := f.Name.Name
	if f.Recv != nil || !strings.HasSuffix(c.file, "_test.go") || !strings.HasPrefix(name, "Test") || name == "TestMain" {
		return
	}
	if !testName.MatchString(name) || len(name) > maxTestName {
		c.reportf(line, "test", name, "%s: name tests TestSubject_Behaviour, with at most %d characters", name, maxTestName)
	}
}

// identifier checks a declared name, as a whole and word by word.
func (c *checker) identifier(line int, name string) {
	if instead, ok := c.rules.names[name]; ok {
		c.reportf(line, "name", name, "identifier %s: %s", name, instead)
		return
	}
	for _, word := range camelWords(name) {
		if instead, ok := c.rules.parts[word]; ok {
			c.reportf(line, "name", name, "identifier %s has %q in it: %s", name, word, instead)
		}
	}
}

// camelWords splits an identifier into its words, in lower case.
func camelWords(name string) []string {
	var words []string
	var word []rune
	flush := func() {
		if len(word) > 0 {
			words = append(words, strings.ToLower(string(word)))
		}
		word = nil
	}
	runes := []rune(name)
	for i, r := range runes {
		starts := unicode.IsUpper(r) && i > 0 && (!unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1]))
		if starts || r == '_' || unicode.IsDigit(r) {
			flush()
		}
		if r != '_' {
			word = append(word, r)
		}
	}
	flush()
	return words
}

// comments checks a group of comments paragraph by paragraph. Code, which is indented, directives and the output of examples
// are left out.
func (c *checker) comments(fset *token.FileSet, group *ast.CommentGroup) {
	var current paragraph
	for _, comment := range group.List {
		number := fset.Position(comment.Pos()).Line
		if directive.MatchString(comment.Text) {
			if _, reason, ok := strings.Cut(comment.Text, " // "); ok {
				c.words(number, reason)
			}
			continue
		}
		for i, line := range commentLines(comment.Text) {
			if output.MatchString(line) {
				c.flush(&current)
				return
			}
			trimmed := strings.TrimSpace(line)
			switch {
			case trimmed == "", strings.HasPrefix(line, "\t"), strings.HasPrefix(line, "     "), strings.HasPrefix(trimmed, "# "):
				c.flush(&current)
				continue
			case listItem.MatchString(line):
				c.flush(&current)
				trimmed = listItem.ReplaceAllString(line, "")
			}
			current.add(number+i, trimmed)
		}
	}
	c.flush(&current)
}

// commentLines returns the lines of a comment without its marks.
func commentLines(text string) []string {
	if block, ok := strings.CutPrefix(text, "/*"); ok {
		return strings.Split(strings.TrimSuffix(block, "*/"), "\n")
	}
	return []string{strings.TrimPrefix(text, "//")}
}

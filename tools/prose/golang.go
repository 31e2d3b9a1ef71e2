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
		c.report(1, "file", base, "file %s: name it for its concept (%s)", path.Base(c.file), instead)
	}
	for _, group := range file.Comments {
		c.comments(fset, group)
	}
	line := func(p token.Pos) int { return fset.Position(p).Line }
	imports := map[*ast.BasicLit]bool{}
	for _, spec := range file.Imports {
		imports[spec.Path] = true
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BasicLit:
			if n.Kind == token.STRING && !imports[n] {
				if text, err := strconv.Unquote(n.Value); err == nil && strings.Contains(text, " ") {
					c.words(line(n.Pos()), text)
				}
			}
		case *ast.FuncDecl:
			c.identifier(line(n.Pos()), n.Name.Name)
			c.testName(line(n.Pos()), n)
		case *ast.TypeSpec:
			c.identifier(line(n.Pos()), n.Name.Name)
		case *ast.Field: // of structs and interfaces, parameters, results, receivers
			for _, name := range n.Names {
				c.identifier(line(name.Pos()), name.Name)
			}
			if n.Tag != nil {
				return false // no prose
			}
		case *ast.ValueSpec:
			for _, name := range n.Names {
				c.identifier(line(name.Pos()), name.Name)
			}
		case *ast.AssignStmt:
			if n.Tok == token.DEFINE {
				for _, e := range n.Lhs {
					if name, ok := e.(*ast.Ident); ok {
						c.identifier(line(name.Pos()), name.Name)
					}
				}
			}
		case *ast.RangeStmt:
			for _, e := range []ast.Expr{n.Key, n.Value} {
				if name, ok := e.(*ast.Ident); ok && n.Tok == token.DEFINE {
					c.identifier(line(name.Pos()), name.Name)
				}
			}
		}
		return true
	})
	return nil
}

func (c *checker) testName(line int, f *ast.FuncDecl) {
	name := f.Name.Name
	if f.Recv != nil || !strings.HasSuffix(c.file, "_test.go") || !strings.HasPrefix(name, "Test") || name == "TestMain" {
		return
	}
	if !testName.MatchString(name) || len(name) > maxTestName {
		c.report(line, "test", name, "%s: name tests TestSubject_Behaviour, with at most %d characters", name, maxTestName)
	}
}

// identifier checks a declared name, as a whole and word by word.
func (c *checker) identifier(line int, name string) {
	if instead, ok := c.rules.names[name]; ok {
		c.report(line, "name", name, "identifier %s: %s", name, instead)
		return
	}
	for _, word := range camelWords(name) {
		if instead, ok := c.rules.parts[word]; ok {
			c.report(line, "name", name, "identifier %s has %q in it: %s", name, word, instead)
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

// comments checks a group of comments paragraph by paragraph. Code, which is indented, directives and the output of examples are left out.
func (c *checker) comments(fset *token.FileSet, group *ast.CommentGroup) {
	var current paragraph
	flush := func() {
		if current.text != "" {
			c.words(current.line, code.ReplaceAllString(current.text, "code"))
			c.sentences(current)
		}
		current = paragraph{}
	}
	for _, comment := range group.List {
		number := fset.Position(comment.Pos()).Line
		if directive.MatchString(comment.Text) {
			if _, reason, ok := strings.Cut(comment.Text, " // "); ok {
				c.words(number, reason)
			}
			continue
		}
		lines := []string{strings.TrimPrefix(comment.Text, "//")}
		if strings.HasPrefix(comment.Text, "/*") {
			lines = strings.Split(strings.TrimSuffix(strings.TrimPrefix(comment.Text, "/*"), "*/"), "\n")
		}
		for i, line := range lines {
			trimmed := strings.TrimSpace(line)
			if output.MatchString(line) {
				flush()
				return
			}
			switch {
			case trimmed == "", strings.HasPrefix(line, "\t"), strings.HasPrefix(line, "     "), strings.HasPrefix(trimmed, "# "):
				flush()
				continue
			case listItem.MatchString(line):
				flush()
				trimmed = listItem.ReplaceAllString(line, "")
			}
			if current.text == "" {
				current.line = number + i
			} else {
				current.text += "\n"
			}
			current.text += trimmed
		}
	}
	flush()
}

package sqltext

import (
	"slices"
	"strings"
)

// maxSummary is the length of a summary in bytes (OpenTelemetry semantic conventions, "Generating a summary of the query").
const maxSummary = 255

// Summarize returns a short text for statements of the same kind: the operations of a statement and their tables, such as
// "insert orders select carts". It follows the rules of OpenTelemetry's semantic conventions for db.query.summary. If the statement
// begins with sqlc's comment "-- name: GetUser :one", the summary is that name. It holds no values.
//
// returning reports whether a clause RETURNING makes the statement return rows. Summarize reads at most 32 KB.
func Summarize(sql string) (summary string, returning bool) {
	s := summarizer{levels: make([]level, 1, 8)} //nolint:mnd // deep enough for most statements
	lexer := NewLexer(sql[:min(len(sql), maxInput)])
	for {
		t, ok := lexer.Next()
		if !ok {
			break
		}
		switch t.Kind {
		case Space:
		case Comment:
			s.comment(t.Text)
		default:
			s.add(t)
		}
	}
	s.endTarget(false)
	if s.name != "" {
		return s.name, s.returning
	}
	return string(s.out), s.returning
}

// statementKind is how the rest of a statement is read.
type statementKind int

const (
	unknownKind statementKind = iota
	queryKind                 // SELECT, INSERT, UPDATE, DELETE, MERGE, VALUES or WITH
	objectKind                // a verb with the kind and the name of an object, such as CREATE TABLE
	targetKind                // a verb with a name: COPY and CALL
	verbKind                  // only the verb matters
)

// level is the part of a statement between two parentheses.
type level struct {
	query  bool // it is a query and no list of arguments
	inFrom bool // a comma leads to the next table
}

// summarizer adds operations and targets to out.
type summarizer struct {
	out       []byte
	name      string // sqlc's
	kind      statementKind
	returning bool
	levels    []level
	full      bool // out has no room left

	previous      string // the previous token, in lower case if it is a word
	expectsTarget bool
	isFrom        bool     // the target follows FROM or JOIN, where it may be a function
	target        []byte   // parts read so far
	cteNames      []string // of WITH
	inWith        bool     // before the main query of WITH
}

// comment reads sqlc's comment, which precedes the statement.
func (s *summarizer) comment(text string) {
	if s.kind != unknownKind || s.name != "" {
		return
	}
	text, ok := strings.CutPrefix(strings.TrimSpace(strings.TrimPrefix(text, "--")), "name:")
	if fields := strings.Fields(text); ok && len(fields) > 0 && len(fields[0]) <= maxSummary {
		s.name = fields[0]
	}
}

func (s *summarizer) add(t Token) {
	word := ""
	if t.Kind == Word {
		word = strings.ToLower(t.Text)
	}
	switch {
	case s.continuesTarget(t, word):
	case s.kind == unknownKind:
		s.begin(t, word)
	case s.kind == queryKind:
		s.addToQuery(t, word)
	case s.kind == objectKind:
		s.addToObject(t, word)
	}
	s.previous = word
	if word == "" {
		s.previous = t.Text
	}
}

// begin reads the first token of the statement.
func (s *summarizer) begin(t Token, word string) {
	switch word {
	case "":
		if t.Text == "(" { // (select …) union …
			s.kind, s.levels = queryKind, append(s.levels, level{})
		}
		return
	case "with":
		s.kind, s.inWith = queryKind, true
		return
	case "select", "insert", "update", "delete", "merge", "values":
		s.kind = queryKind
		s.addToQuery(t, word)
		return
	case "create", "alter", "drop", "truncate", "refresh", "reindex", "vacuum", "analyze", "lock", "cluster":
		s.kind, s.expectsTarget = objectKind, true
	case "copy", "call":
		s.kind, s.expectsTarget = targetKind, true
	default:
		s.kind = verbKind
	}
	s.append(t.Text)
}

// objectWords are words between a verb and the name of an object that are no part of the name.
var objectWords = []string{
	"table", "view", "index", "sequence", "function", "procedure", "trigger", "type", "domain", "schema", "extension", "role",
	"user", "database", "materialized", "policy", "publication", "subscription", "aggregate", "operator", "collation",
	"server", "foreign", "unique", "temporary", "temp", "unlogged", "global", "local",
}

// skippedWords are words before a name that are left out.
var skippedWords = []string{
	"if", "not", "exists", "or", "replace", "concurrently", "only", "lateral", "recursive", "full", "verbose", "freeze",
}

// addToObject reads a token of a statement such as CREATE TABLE, before the object's name.
func (s *summarizer) addToObject(t Token, word string) {
	if s.expectsTarget && slices.Contains(objectWords, word) {
		s.append(t.Text)
	}
}

// addToQuery reads a token of a query.
func (s *summarizer) addToQuery(t Token, word string) {
	l := &s.levels[len(s.levels)-1]
	switch {
	case t.Text == "(":
		s.levels = append(s.levels, level{inFrom: s.expectsTarget})
	case t.Text == ")":
		s.levels, s.expectsTarget = s.levels[:max(1, len(s.levels)-1)], false
	case t.Text == ",":
		s.expectsTarget, s.isFrom = l.inFrom, l.inFrom
	case s.inWith && len(s.levels) == 1 && (t.Kind == Identifier || word != "" && !isOperation(word)):
		s.cteNames = append(s.cteNames, t.Text)
	case isOperation(word):
		s.operation(t, word, l)
	case slices.Contains(afterFrom, word):
		l.inFrom = false
	default:
		s.addClause(word, l)
	}
}

// afterFrom are words that end the list of tables after FROM.
var afterFrom = []string{
	"where", "group", "order", "having", "limit", "offset", "window", "union", "except", "intersect", "set", "for", "fetch",
}

// addClause reads a word before a table, or RETURNING.
func (s *summarizer) addClause(word string, l *level) {
	switch word {
	case "from":
		if l.query && s.previous != "distinct" { // not IS DISTINCT FROM, extract(year from …)
			s.expectsTarget, s.isFrom, l.inFrom = true, true, true
		}
	case "join":
		s.expectsTarget, s.isFrom = true, true
	case "into":
		s.expectsTarget, s.isFrom = true, false
	case "returning":
		s.returning, l.inFrom = s.returning || len(s.levels) == 1, false
	}
}

func isOperation(word string) bool {
	return slices.Contains([]string{"select", "insert", "update", "delete", "merge", "values"}, word)
}

// operation reads SELECT, INSERT and so on, unless the word is a part of another clause.
func (s *summarizer) operation(t Token, word string, l *level) {
	switch s.previous {
	case "do", "then", "for", "key", "on": // ON CONFLICT DO UPDATE, WHEN MATCHED THEN DELETE, FOR UPDATE
		return
	}
	if word == "values" && s.kind == queryKind && len(s.out) > 0 && !s.inWith { // of INSERT
		return
	}
	if len(s.levels) == 1 {
		s.inWith = false
	}
	l.query, l.inFrom = true, false
	s.append(t.Text)
	s.expectsTarget, s.isFrom = word == "update", false
}

// continuesTarget reads a token of a table's name. It returns false if the token is something else.
func (s *summarizer) continuesTarget(t Token, word string) bool {
	if len(s.target) > 0 {
		if t.Text == "." || s.previous == "." && (t.Kind == Word || t.Kind == Identifier) {
			s.target = append(s.target, t.Text...)
			return true
		}
		s.endTarget(t.Text == "(")
		return false
	}
	if !s.expectsTarget || t.Kind != Word && t.Kind != Identifier {
		return false
	}
	if slices.Contains(skippedWords, word) {
		return true
	}
	if word != "" && (s.kind == objectKind && slices.Contains(objectWords, word) || isOperation(word)) {
		return false
	}
	s.expectsTarget = false
	s.target = append(s.target[:0], t.Text...)
	return true
}

// endTarget adds the table whose name has been read, unless it is a function or a name of WITH.
func (s *summarizer) endTarget(followedByParenthesis bool) {
	if len(s.target) == 0 {
		return
	}
	target := string(s.target)
	s.target = s.target[:0]
	if s.isFrom && followedByParenthesis || slices.Contains(s.cteNames, target) {
		return
	}
	s.append(target)
}

// append adds a part to the summary if there is room for it.
func (s *summarizer) append(part string) {
	if s.full || len(s.out)+1+len(part) > maxSummary {
		s.full = true
		return
	}
	if len(s.out) > 0 {
		s.out = append(s.out, ' ')
	}
	s.out = append(s.out, part...)
}

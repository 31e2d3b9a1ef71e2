package pgfx

import (
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	// textRead is how much of a statement is looked at, textShown how much of the normalised text is kept.
	textRead  = 32 << 10
	textShown = 2 << 10
	ellipsis  = "…"
)

// normalise appends to out what statements have in common that differ in their values only: literals and parameters
// become "?", lists behind IN and ARRAY and the rows behind VALUES become one, comments and superfluous white space go
// (PostgreSQL manual, "Lexical Structure"). The text that results holds no value. What is too long ends with "…".
func normalise(out []byte, sql string) []byte {
	n := normaliser{out: out, lexer: lexer{sql: sql[:min(len(sql), textRead)]}}
	for {
		token := n.lexer.next()
		if token.kind == tokenEnd {
			break
		}
		if len(n.out) > textShown && !n.inList && n.rows == rowsNone {
			break
		}
		n.add(token)
	}
	n.endRows()
	out = n.out
	for len(out) > 0 && (out[len(out)-1] == ';' || out[len(out)-1] == ' ') {
		out = out[:len(out)-1]
	}
	if len(sql) > textRead || len(out) > textShown {
		out = cutText(out)
	}
	return out
}

// cutText shortens a text to textShown bytes and whole characters, and says that it did.
func cutText(out []byte) []byte {
	end := min(len(out), textShown)
	for end > 0 && end < len(out) && !utf8.RuneStart(out[end]) {
		end--
	}
	return append(out[:end], ellipsis...)
}

// normaliser writes tokens and folds lists as their ends come by.
type normaliser struct {
	lexer lexer
	out   []byte

	// last is the word before, if that may begin a list.
	last string

	// inList: the list that began at listStart holds nothing but values so far; values is whether it holds any.
	inList, values       bool
	listStart, listDepth int
	cast                 bool // a colon came before: the name of a type is no column

	// rows is where in VALUES we are, depth how many parentheses are open in the row, rowsEnd the end of the first row.
	rows    rowsState
	depth   int
	rowsEnd int
	more    bool
}

type rowsState int

const (
	rowsNone    rowsState = iota
	rowsInside            // of a row
	rowsBetween           // two rows, perhaps
)

func (n *normaliser) add(t token) {
	if n.rows == rowsBetween && n.isMore(t) {
		return
	}
	if n.inList && !n.isListed(t) {
		n.inList = false
	}
	if t.spaced && len(n.out) > 0 && n.out[len(n.out)-1] != ' ' {
		n.out = append(n.out, ' ')
	}
	last := n.last
	n.last = ""
	switch t.kind {
	case tokenValue:
		n.values = true
		n.out = append(n.out, '?')
		return
	case tokenWord:
		n.values = n.values || t.text == ellipsis
		n.last = t.text
	default:
	}
	n.out = append(n.out, t.text...)
	switch t.text {
	case "(":
		n.open(last)
	case "[":
		n.openList(last, "array")
	case ")", "]":
		n.close(t.text)
	}
}

func (n *normaliser) open(last string) {
	switch {
	case n.rows == rowsInside:
		n.depth++
	case n.rows == rowsBetween, strings.EqualFold(last, "values"):
		n.rows, n.depth = rowsInside, 1
	}
	n.openList(last, "in")
}

// openList begins a list if the word before the bracket is the one that lists come behind.
func (n *normaliser) openList(last, word string) {
	switch {
	case n.inList:
		n.listDepth++
	case strings.EqualFold(last, word):
		n.inList, n.values, n.listStart, n.listDepth = true, false, len(n.out), 0
	}
}

func (n *normaliser) close(bracket string) {
	switch {
	case n.inList && n.listDepth > 0:
		n.listDepth--
	case n.inList:
		if n.values {
			n.out = append(append(n.out[:n.listStart], ellipsis...), bracket...)
		}
		n.inList = false
	}
	if n.rows != rowsInside || bracket != ")" {
		return
	}
	if n.depth--; n.depth > 0 {
		return
	}
	if n.rowsEnd > 0 {
		n.out, n.more = n.out[:n.rowsEnd], true
	}
	n.rows, n.rowsEnd = rowsBetween, len(n.out)
}

// isMore looks at what comes behind a row. It returns true for the "…" that stands for more of them, and leaves VALUES for
// what has nothing to do with rows.
func (n *normaliser) isMore(t token) bool {
	comma := len(n.out) > n.rowsEnd
	switch {
	case comma && t.text == ellipsis:
		n.more = true
		return true
	case comma && t.text == "(", !comma && t.text == ",":
	default:
		n.endRows()
	}
	return false
}

// endRows leaves VALUES: all rows but the first become "…".
func (n *normaliser) endRows() {
	if n.rows == rowsNone {
		return
	}
	if n.rows == rowsInside && n.rowsEnd > 0 { // the text ends in the middle of a row
		n.more = true
	}
	if n.more {
		n.out = append(append(n.out[:n.rowsEnd], ", "...), ellipsis...)
	}
	n.rows, n.rowsEnd, n.more = rowsNone, 0, false
}

// isListed reports whether a token may occur in a list of nothing but values.
func (n *normaliser) isListed(t token) bool {
	cast := n.cast
	n.cast = t.text == ":"
	if t.kind == tokenValue {
		return true
	}
	if t.kind == tokenWord {
		return cast || slices.Contains([]string{ellipsis, "null", "true", "false", "NULL", "TRUE", "FALSE"}, t.text)
	}
	return len(t.text) == 1 && strings.IndexByte(",+-:()[]", t.text[0]) >= 0
}

type tokenKind int

const (
	tokenEnd    tokenKind = iota
	tokenWord             // a key word or a name
	tokenValue            // a literal or a parameter
	tokenSymbol           // one character of an operator or a bracket, or a quoted name
)

type token struct {
	kind   tokenKind
	text   string
	spaced bool // white space or a comment comes before
}

// lexer splits SQL into tokens as PostgreSQL does, as far as finding values takes it.
type lexer struct {
	sql string
	pos int
}

func (l *lexer) next() token {
	start := l.pos
	l.skipSpace()
	t := token{spaced: l.pos > start}
	start = l.pos
	if start >= len(l.sql) {
		return t
	}
	switch c := l.sql[start]; {
	case c == '\'':
		l.quoted('\'', false)
		t.kind = tokenValue
	case c == '"':
		l.quoted('"', false)
		t.kind = tokenSymbol
	case c == '$' && l.dollar():
		t.kind = tokenValue
	case isDigit(c), c == '.' && isDigit(l.at(start+1)):
		l.number()
		t.kind = tokenValue
	case isWord(c):
		t.kind = tokenWord
		if l.word(); l.at(l.pos) == '\'' && l.pos == start+1 && strings.IndexByte("eEbBxXnN", c) >= 0 {
			l.quoted('\'', c|' ' == 'e')
			t.kind = tokenValue
		}
	default:
		l.pos++
		t.kind = tokenSymbol
	}
	t.text = l.sql[start:l.pos]
	return t
}

// at is the byte at a position, 0 behind the end.
func (l *lexer) at(pos int) byte {
	if pos < len(l.sql) {
		return l.sql[pos]
	}
	return 0
}

func (l *lexer) skipSpace() {
	for l.pos < len(l.sql) {
		switch c, next := l.sql[l.pos], l.at(l.pos+1); {
		case c == ' ' || c >= '\t' && c <= '\r':
			l.pos++
		case c == '-' && next == '-':
			if end := strings.IndexAny(l.sql[l.pos:], "\r\n"); end >= 0 {
				l.pos += end
			} else {
				l.pos = len(l.sql)
			}
		case c == '/' && next == '*':
			l.comment()
		default:
			return
		}
	}
}

// comment skips a comment and those inside it.
func (l *lexer) comment() {
	for depth := 0; l.pos < len(l.sql); {
		switch {
		case strings.HasPrefix(l.sql[l.pos:], "/*"):
			depth++
			l.pos += 2
		case strings.HasPrefix(l.sql[l.pos:], "*/"):
			depth--
			l.pos += 2
		default:
			l.pos++
		}
		if depth == 0 {
			return
		}
	}
}

// quoted skips what stands between quotes; a doubled quote is part of it, and so is an escaped one.
func (l *lexer) quoted(quote byte, escapes bool) {
	for l.pos++; l.pos < len(l.sql); l.pos++ {
		switch c := l.sql[l.pos]; {
		case c == '\\' && escapes:
			l.pos++
		case c == quote && l.at(l.pos+1) == quote:
			l.pos++
		case c == quote:
			l.pos++
			return
		}
	}
	l.pos = len(l.sql)
}

// dollar skips a parameter ($1) or a dollar-quoted string. It returns false when it is neither.
func (l *lexer) dollar() bool {
	end := l.pos + 1
	if isDigit(l.at(end)) {
		for isDigit(l.at(end)) {
			end++
		}
		l.pos = end
		return true
	}
	for isWord(l.at(end)) || isDigit(l.at(end)) {
		end++
	}
	if l.at(end) != '$' {
		return false
	}
	tag := l.sql[l.pos : end+1]
	if length := strings.Index(l.sql[end+1:], tag); length >= 0 {
		l.pos = end + 1 + length + len(tag)
	} else {
		l.pos = len(l.sql)
	}
	return true
}

// number skips digits, what may stand between them, and an exponent with its sign.
func (l *lexer) number() {
	for ; l.pos < len(l.sql); l.pos++ {
		c := l.sql[l.pos]
		exponent := (c == '+' || c == '-') && l.sql[l.pos-1]|' ' == 'e' && isDigit(l.at(l.pos+1))
		if !isDigit(c) && !isWord(c) && c != '.' && !exponent {
			return
		}
	}
}

func (l *lexer) word() {
	for isWord(l.at(l.pos)) || isDigit(l.at(l.pos)) || l.at(l.pos) == '$' {
		l.pos++
	}
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// isWord reports whether a name may begin with a byte. Characters outside of ASCII may.
func isWord(c byte) bool { return c|' ' >= 'a' && c|' ' <= 'z' || c == '_' || c >= utf8.RuneSelf }

// Package sqltext splits SQL into tokens as PostgreSQL does (PostgreSQL manual, "Lexical Structure"), and normalizes the text
// of statements.
package sqltext

import (
	"strings"
	"unicode/utf8"
)

// Kind is the kind of a [Token].
type Kind uint8

// The kinds of tokens.
const (
	Space      Kind = iota + 1 // white space
	Comment                    // -- to the end of the line, or /* */, which may be nested
	Word                       // a key word or an unquoted identifier
	Identifier                 // a quoted identifier
	String                     // '…', also with a prefix (E, B, X or N), or $tag$…$tag$
	Number                     // a numeric constant
	Parameter                  // $1
	Operator                   // a run of operator characters
	Symbol                     // any other character: brackets, comma, semicolon, colon, dot and characters that SQL doesn't use
)

// Token is a part of a statement.
type Token struct {
	Kind Kind
	Text string
	Pos  int // offset of Text in the statement
	// Unterminated reports that a String, an Identifier or a Comment lacks its end. The token then extends to the end of the
	// statement.
	Unterminated bool
}

// Lexer splits a statement into tokens. The texts of all tokens put together are the statement.
//
// It assumes that standard_conforming_strings is on, which is the server's default. An operator token may hold several of the
// server's operators, such as =-.
type Lexer struct {
	sql string
	pos int
}

// NewLexer returns a lexer for a statement, or for several.
func NewLexer(sql string) Lexer { return Lexer{sql: sql} }

// Next returns the next token, and false at the end of the statement.
func (l *Lexer) Next() (Token, bool) {
	if l.pos >= len(l.sql) {
		return Token{}, false
	}
	t := Token{Pos: l.pos}
	var terminated bool
	t.Kind, terminated = l.scan()
	t.Text, t.Unterminated = l.sql[t.Pos:l.pos], !terminated
	return t, true
}

// scan moves behind the token at the current position.
func (l *Lexer) scan() (kind Kind, terminated bool) {
	switch c, next := l.sql[l.pos], l.byteAt(l.pos+1); {
	case isSpace(c):
		l.skip(isSpace)
		return Space, true
	case c == '-' && next == '-':
		l.skipLineComment()
		return Comment, true
	case c == '/' && next == '*':
		return Comment, l.skipBlockComment()
	default:
		return l.scanToken(c, next)
	}
}

// scanToken is scan for what is neither white space nor a comment.
func (l *Lexer) scanToken(c, next byte) (kind Kind, terminated bool) {
	switch {
	case c == '\'':
		return String, l.skipQuoted('\'')
	case c == '"':
		return Identifier, l.skipQuoted('"')
	case c|' ' == 'e' && next == '\'':
		l.pos++
		return String, l.skipEscaped()
	case strings.IndexByte("bBxXnN", c) >= 0 && next == '\'':
		l.pos++
		return String, l.skipQuoted('\'')
	case IsWordStart(c):
		l.skip(isWordPart)
		return Word, true
	case isDigit(c), c == '.' && isDigit(next):
		l.skipNumber()
		return Number, true
	case c == '$':
		return l.scanDollar()
	case isOperator(c):
		l.skipOperator()
		return Operator, true
	}
	l.pos++
	return Symbol, true
}

// byteAt returns the byte at an offset, 0 at the end of the statement and beyond.
func (l *Lexer) byteAt(pos int) byte {
	if pos < len(l.sql) {
		return l.sql[pos]
	}
	return 0
}

func (l *Lexer) skip(belongs func(byte) bool) {
	for l.pos < len(l.sql) && belongs(l.sql[l.pos]) {
		l.pos++
	}
}

func (l *Lexer) skipLineComment() {
	if end := strings.IndexAny(l.sql[l.pos:], "\r\n"); end >= 0 {
		l.pos += end
	} else {
		l.pos = len(l.sql)
	}
}

// skipBlockComment skips a comment and those nested in it.
func (l *Lexer) skipBlockComment() (terminated bool) {
	for depth := 0; l.pos < len(l.sql); {
		switch rest := l.sql[l.pos:]; {
		case strings.HasPrefix(rest, "/*"):
			depth++
			l.pos += 2
		case strings.HasPrefix(rest, "*/"):
			depth--
			l.pos += 2
		default:
			l.pos++
		}
		if depth == 0 {
			return true
		}
	}
	return false
}

// skipQuoted skips a string or an identifier from its opening quote to its closing one. A doubled quote belongs to it.
func (l *Lexer) skipQuoted(quote byte) (terminated bool) {
	for l.pos++; l.pos < len(l.sql); l.pos++ {
		if l.sql[l.pos] != quote {
			continue
		}
		if l.byteAt(l.pos+1) != quote {
			l.pos++
			return true
		}
		l.pos++
	}
	return false
}

// skipEscaped skips a string in which a backslash escapes the next character. Its continuation on another line has escapes too.
func (l *Lexer) skipEscaped() (terminated bool) {
	for l.pos++; l.pos < len(l.sql); l.pos++ {
		switch l.sql[l.pos] {
		case '\\':
			l.pos++
		case '\'':
			if l.byteAt(l.pos+1) == '\'' {
				l.pos++
				continue
			}
			l.pos++
			next, ok := l.continuation()
			if !ok {
				return true
			}
			l.pos = next
		}
	}
	l.pos = len(l.sql) // the last character may have been an escaping backslash
	return false
}

// continuation returns the offset of the quote that continues the string before the current position. White space and line
// comments with at least one newline come before such a quote.
func (l *Lexer) continuation() (quote int, ok bool) {
	ahead := Lexer{sql: l.sql, pos: l.pos}
	newline := false
	for ahead.pos < len(ahead.sql) {
		switch c := ahead.sql[ahead.pos]; {
		case isSpace(c):
			newline = newline || c == '\n' || c == '\r'
			ahead.pos++
		case strings.HasPrefix(ahead.sql[ahead.pos:], "--"):
			ahead.skipLineComment()
		default:
			return ahead.pos, newline && c == '\''
		}
	}
	return 0, false
}

// scanDollar skips a parameter, a dollar-quoted string or a lone dollar sign.
func (l *Lexer) scanDollar() (kind Kind, terminated bool) {
	start := l.pos
	l.pos++
	if isDigit(l.byteAt(l.pos)) {
		l.skip(isDigit)
		return Parameter, true
	}
	if IsWordStart(l.byteAt(l.pos)) {
		l.skip(func(c byte) bool { return isWordPart(c) && c != '$' })
	}
	if l.byteAt(l.pos) != '$' {
		l.pos = start + 1
		return Symbol, true
	}
	l.pos++
	delimiter := l.sql[start:l.pos]
	length := strings.Index(l.sql[l.pos:], delimiter)
	if length < 0 {
		l.pos = len(l.sql)
		return String, false
	}
	l.pos += length + len(delimiter)
	return String, true
}

// skipNumber skips digits, what may stand between them, an exponent with its sign, and letters that follow without a space.
func (l *Lexer) skipNumber() {
	for ; l.pos < len(l.sql); l.pos++ {
		c := l.sql[l.pos]
		exponentSign := (c == '+' || c == '-') && l.sql[l.pos-1]|' ' == 'e' && isDigit(l.byteAt(l.pos+1))
		if !isDigit(c) && !IsWordStart(c) && c != '.' && !exponentSign {
			return
		}
	}
}

// skipOperator skips operator characters up to the beginning of a comment.
func (l *Lexer) skipOperator() {
	for l.pos < len(l.sql) && isOperator(l.sql[l.pos]) {
		if rest := l.sql[l.pos:]; strings.HasPrefix(rest, "--") || strings.HasPrefix(rest, "/*") {
			return
		}
		l.pos++
	}
}

// IsWordStart reports whether an identifier may begin with c without quotes. Every byte of a character outside ASCII may.
func IsWordStart(c byte) bool {
	return c|' ' >= 'a' && c|' ' <= 'z' || c == '_' || c >= utf8.RuneSelf
}

func isWordPart(c byte) bool { return IsWordStart(c) || isDigit(c) || c == '$' }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

func isOperator(c byte) bool { return strings.IndexByte("+-*/<>=~!@#%^&|`?", c) >= 0 }

package repo

import (
	"strings"
	"unicode/utf8"
)

// tokenKind is what a piece of SQL is, as far as placeholders are concerned (PostgreSQL manual, "Lexical Structure").
type tokenKind uint8

const (
	tokenText      tokenKind = iota // anything that is copied as it is
	tokenQuoted                     // a string, a quoted identifier or a dollar-quoted string
	tokenComment                    // a comment
	tokenNumbered                   // $1
	tokenNamed                      // @name
	tokenQuestion                   // ?
	tokenOpen                       // ( or [
	tokenClose                      // ) or ]
	tokenSemicolon                  // ;
	tokenBroken                     // something that is opened and not closed
)

type token struct {
	kind tokenKind
	text string
}

// tokenize splits SQL. Put together again, the texts of the tokens are the input.
func tokenize(sql string, yield func(token) bool) {
	start := 0 // of the text that has not been handed on
	flush := func(end int) bool { return start == end || yield(token{tokenText, sql[start:end]}) }
	for i := 0; i < len(sql); {
		kind, length := next(sql, i)
		if kind == tokenText {
			i += length
			continue
		}
		if !flush(i) || !yield(token{kind, sql[i : i+length]}) {
			return
		}
		i += length
		start = i
	}
	flush(len(sql))
}

// next returns the token at i and its length.
func next(sql string, i int) (tokenKind, int) {
	rest := sql[i:]
	switch c := rest[0]; {
	case c == '\'':
		return quoted(rest, 0, '\'', false)
	case c == '"':
		return quoted(rest, 0, '"', false)
	case (c == 'e' || c == 'E') && len(rest) > 1 && rest[1] == '\'':
		return quoted(rest, 1, '\'', true)
	case isWordStart(rest):
		return tokenText, wordLength(rest)
	case isDigit(c):
		return tokenText, numberLength(rest)
	case c == '$':
		return dollar(rest)
	case strings.HasPrefix(rest, "--"):
		if end := strings.IndexAny(rest, "\r\n"); end >= 0 {
			return tokenComment, end
		}
		return tokenComment, len(rest)
	case strings.HasPrefix(rest, "/*"):
		return blockComment(rest)
	case isOperator(c):
		return operator(rest)
	default:
		return mark(c), 1
	}
}

// mark returns what a single character is that begins nothing longer.
func mark(c byte) tokenKind {
	switch c {
	case '(', '[':
		return tokenOpen
	case ')', ']':
		return tokenClose
	case ';':
		return tokenSemicolon
	case 0:
		return tokenBroken
	default:
		return tokenText
	}
}

// quoted returns a token that begins at open and ends at the next quote that isn't doubled, nor escaped where that counts.
func quoted(rest string, open int, quote byte, escapes bool) (tokenKind, int) {
	for i := open + 1; i < len(rest); i++ {
		switch {
		case rest[i] == 0:
			return tokenBroken, len(rest)
		case escapes && rest[i] == '\\':
			i++
		case rest[i] == quote:
			if i+1 < len(rest) && rest[i+1] == quote {
				i++
				continue
			}
			if more := continued(rest[i+1:]); escapes && more > 0 {
				i += more
				continue
			}
			return tokenQuoted, i + 1
		}
	}
	return tokenBroken, len(rest)
}

// continued returns how far it is to the quote that continues a string constant on another line, 0 when none does. Only for
// a string with escapes it matters, for its continuation has them too.
func continued(rest string) int {
	blank := len(rest) - len(strings.TrimLeft(rest, " \t\n\r\f\v"))
	if strings.ContainsAny(rest[:blank], "\n\r") && blank < len(rest) && rest[blank] == '\'' {
		return blank + 1
	}
	return 0
}

// dollar returns a placeholder or a dollar-quoted string.
func dollar(rest string) (tokenKind, int) {
	end := 1
	for end < len(rest) && isDigit(rest[end]) {
		end++
	}
	if end > 1 {
		return tokenNumbered, end
	}
	if tag := 1 + tagLength(rest[1:]); tag < len(rest) && rest[tag] == '$' {
		delimiter := rest[:tag+1]
		if closing := strings.Index(rest[tag+1:], delimiter); closing >= 0 {
			return tokenQuoted, tag + 1 + closing + len(delimiter)
		}
		return tokenBroken, len(rest)
	}
	return tokenText, 1
}

// tagLength returns the length of the tag of a dollar quote: a word without a dollar sign.
func tagLength(rest string) int {
	if !isWordStart(rest) {
		return 0
	}
	i := 0
	for i < len(rest) && rest[i] != '$' && isWordPart(rest[i]) {
		i++
	}
	return i
}

// blockComment returns a comment, which may hold others.
func blockComment(rest string) (tokenKind, int) {
	depth := 0
	for i := 0; i+1 < len(rest); i++ {
		switch rest[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			depth--
			i++
			if depth == 0 {
				return tokenComment, i + 1
			}
		}
	}
	return tokenBroken, len(rest)
}

// operator returns an operator, or the placeholder that looks like one. @ and ? are placeholders only when they stand alone:
// @> and ?| are operators.
func operator(rest string) (tokenKind, int) {
	end := 0
	for end < len(rest) && isOperator(rest[end]) && !strings.HasPrefix(rest[end:], "--") && !strings.HasPrefix(rest[end:], "/*") {
		end++
	}
	// An operator of several characters may be followed by a placeholder without a space: =@name, =?.
	if rest[end-1] == '@' && isWordStart(rest[end:]) && !isOperatorWithAt(rest[:end]) {
		if end > 1 {
			return tokenText, end - 1
		}
		return tokenNamed, 1 + wordLength(rest[1:])
	}
	if rest[0] == '?' && end == 1 {
		return tokenQuestion, 1
	}
	if rest[end-1] == '?' && strings.Trim(rest[:end-1], "<>=!") == "" { // =?, but not @? and ??
		return tokenText, end - 1
	}
	return tokenText, end
}

// isOperatorWithAt reports whether an operator of PostgreSQL ends with @.
func isOperatorWithAt(op string) bool {
	switch op {
	case "<@", "@@", "@@@", "^@":
		return true
	}
	return false
}

func isOperator(c byte) bool { return strings.IndexByte("+-*/<>=~!@#%^&|`?", c) >= 0 }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isWordStart(rest string) bool {
	if rest == "" {
		return false
	}
	c := rest[0]
	return c >= utf8.RuneSelf || c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func isWordPart(c byte) bool {
	return c >= utf8.RuneSelf || c == '_' || c == '$' || isDigit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func wordLength(rest string) int {
	i := 0
	for i < len(rest) && isWordPart(rest[i]) {
		i++
	}
	return i
}

// numberLength takes a number with what sticks to it, so that 1e5 isn't a number and a word.
func numberLength(rest string) int {
	i := 0
	for i < len(rest) && (isDigit(rest[i]) || rest[i] == '.' || rest[i] == '_' || isWordStart(rest[i:])) {
		i++
	}
	return i
}

package sqltext

import (
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	// maxInput is how many bytes of a statement Normalize reads, maxNormalized how many of its result it keeps, without the
	// ellipsis that marks a cut.
	maxInput      = 32 << 10
	maxNormalized = 2 << 10

	ellipsis = "…"
)

// Normalize appends to dst a text that is the same for statements that differ only in their values. Literals and parameters
// become "?". Lists of values after IN and ARRAY, and the rows of VALUES after the first, become "…". Comments and superfluous
// white space are left out. The result holds no value of the statement. It is cut after 2 KB, and then ends with "…".
func Normalize(dst []byte, sql string) []byte {
	n := normalizer{out: dst}
	lexer := NewLexer(sql[:min(len(sql), maxInput)])
	spaced := false
	for {
		t, ok := lexer.Next()
		if !ok || len(n.out) > maxNormalized && !n.inList && n.values == outsideValues {
			break
		}
		if t.Kind == Space || t.Kind == Comment {
			spaced = true
			continue
		}
		n.add(t, spaced)
		spaced = false
	}
	n.leaveValues()
	out := n.out
	for len(out) > 0 && (out[len(out)-1] == ';' || out[len(out)-1] == ' ') {
		out = out[:len(out)-1]
	}
	if len(sql) > maxInput || len(out) > maxNormalized {
		out = cut(out)
	}
	return out
}

// cut shortens a text to maxNormalized bytes without splitting a character, and appends an ellipsis.
func cut(out []byte) []byte {
	end := min(len(out), maxNormalized)
	for end > 0 && end < len(out) && !utf8.RuneStart(out[end]) {
		end--
	}
	return append(out[:end], ellipsis...)
}

// normalizer appends tokens to out and folds lists of values when it reaches their end.
type normalizer struct {
	out []byte

	// word is the previous token if it is a word, which may introduce a list.
	word string

	// inList: the list that begins at listStart has held nothing but values so far. hasValue: it has held at least one.
	inList, hasValue     bool
	listStart, listDepth int
	cast                 bool // the previous token is a colon: a word is the name of a type

	// values is the position relative to the rows of VALUES. depth counts the open parentheses of the current row. firstRowEnd is
	// the end of the first row in out, 0 before. moreRows is whether other rows have followed.
	values      valuesPosition
	depth       int
	firstRowEnd int
	moreRows    bool
}

type valuesPosition int

const (
	outsideValues valuesPosition = iota
	insideRow
	afterRow // another row may follow
)

func (n *normalizer) add(t Token, spaced bool) {
	if n.values == afterRow && n.continuesValues(t) {
		return
	}
	if n.inList && !n.belongsToList(t) {
		n.inList = false
	}
	if spaced && len(n.out) > 0 && n.out[len(n.out)-1] != ' ' {
		n.out = append(n.out, ' ')
	}
	word := n.word
	n.word = ""
	switch t.Kind {
	case String, Number, Parameter:
		n.hasValue = true
		n.out = append(n.out, '?')
		return
	case Word:
		n.hasValue = n.hasValue || t.Text == ellipsis
		n.word = t.Text
	default:
	}
	n.out = append(n.out, t.Text...)
	switch t.Text {
	case "(":
		n.openParenthesis(word)
	case "[":
		n.openList(word, "array")
	case ")", "]":
		n.closeBracket(t.Text)
	}
}

func (n *normalizer) openParenthesis(word string) {
	switch {
	case n.values == insideRow:
		n.depth++
	case n.values == afterRow, strings.EqualFold(word, "values"):
		n.values, n.depth = insideRow, 1
	}
	n.openList(word, "in")
}

// openList begins a list if the word before the bracket is introducer.
func (n *normalizer) openList(word, introducer string) {
	switch {
	case n.inList:
		n.listDepth++
	case strings.EqualFold(word, introducer):
		n.inList, n.hasValue, n.listStart, n.listDepth = true, false, len(n.out), 0
	}
}

func (n *normalizer) closeBracket(bracket string) {
	switch {
	case n.inList && n.listDepth > 0:
		n.listDepth--
	case n.inList:
		if n.hasValue {
			n.out = append(append(n.out[:n.listStart], ellipsis...), bracket...)
		}
		n.inList = false
	}
	if n.values != insideRow || bracket != ")" {
		return
	}
	if n.depth--; n.depth > 0 {
		return
	}
	if n.firstRowEnd > 0 {
		n.out, n.moreRows = n.out[:n.firstRowEnd], true
	}
	n.values, n.firstRowEnd = afterRow, len(n.out)
}

// continuesValues handles a token that follows a row. It returns true if the token is the "…" of a text that has been
// normalized before, and leaves VALUES if the token doesn't lead to another row.
func (n *normalizer) continuesValues(t Token) bool {
	comma := len(n.out) > n.firstRowEnd
	switch {
	case comma && t.Text == ellipsis:
		n.moreRows = true
		return true
	case comma && t.Text == "(", !comma && t.Text == ",":
	default:
		n.leaveValues()
	}
	return false
}

// leaveValues replaces all rows of VALUES but the first by "…".
func (n *normalizer) leaveValues() {
	if n.values == outsideValues {
		return
	}
	if n.values == insideRow && n.firstRowEnd > 0 { // the statement ends within a row
		n.moreRows = true
	}
	if n.moreRows {
		n.out = append(append(n.out[:n.firstRowEnd], ", "...), ellipsis...)
	}
	n.values, n.firstRowEnd, n.moreRows = outsideValues, 0, false
}

// belongsToList reports whether a token may be part of a list of values.
func (n *normalizer) belongsToList(t Token) bool {
	cast := n.cast
	n.cast = t.Text == ":"
	switch t.Kind {
	case String, Number, Parameter:
		return true
	case Word:
		return cast || slices.Contains([]string{ellipsis, "null", "true", "false", "NULL", "TRUE", "FALSE"}, t.Text)
	default:
		return len(t.Text) == 1 && strings.IndexByte(",+-:()[]", t.Text[0]) >= 0
	}
}

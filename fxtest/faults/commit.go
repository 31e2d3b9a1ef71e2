package faults

import "strings"

// commits reports whether a statement of the script is COMMIT or END, but not COMMIT PREPARED. It skips strings, quoted
// identifiers and comments (PostgreSQL manual, "Lexical Structure").
func commits(script string) bool {
	for rest := script; rest != ""; {
		word, after := nextWord(rest)
		if strings.EqualFold(word, "commit") || strings.EqualFold(word, "end") {
			if second, _ := nextWord(after); !strings.EqualFold(second, "prepared") {
				return true
			}
		}
		rest = nextStatement(after)
	}
	return false
}

// nextWord skips white space and comments and returns the letters that follow.
func nextWord(s string) (word, rest string) {
	for s != "" {
		trimmed := strings.TrimLeft(s, " \t\r\n\f\v")
		if n := commentLength(trimmed); n > 0 {
			s = trimmed[n:]
			continue
		}
		end := strings.IndexFunc(trimmed, func(r rune) bool { return !isLetter(r) })
		if end < 0 {
			end = len(trimmed)
		}
		return trimmed[:end], trimmed[end:]
	}
	return "", ""
}

func isLetter(r rune) bool { return r == '_' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' }

// nextStatement returns the text after the end of the current statement.
func nextStatement(s string) string {
	for at := 0; at < len(s); {
		switch n := max(commentLength(s[at:]), quotedLength(s, at)); {
		case n > 0:
			at += n
		case s[at] == ';':
			return s[at+1:]
		default:
			at++
		}
	}
	return ""
}

// commentLength returns the length of the comment at the start of s, or 0.
func commentLength(s string) int {
	if strings.HasPrefix(s, "--") {
		if end := strings.IndexByte(s, '\n'); end >= 0 {
			return end + 1
		}
		return len(s)
	}
	if !strings.HasPrefix(s, "/*") {
		return 0
	}
	depth := 1
	for at := 2; at < len(s); {
		switch {
		case strings.HasPrefix(s[at:], "/*"):
			depth++
			at += 2
		case strings.HasPrefix(s[at:], "*/"):
			depth--
			at += 2
		default:
			at++
		}
		if depth == 0 {
			return at
		}
	}
	return len(s)
}

// quotedLength returns the length of the string or quoted identifier at s[at], or 0.
func quotedLength(s string, at int) int {
	switch s[at] {
	case '\'', '"':
		escapes := s[at] == '\'' && at > 0 && strings.EqualFold(s[at-1:at], "e") && (at == 1 || !isLetter(rune(s[at-2])))
		for end := at + 1; end < len(s); end++ {
			if escapes && s[end] == '\\' {
				end++
			} else if s[end] == s[at] { // a doubled quote reads as two adjacent strings
				return end + 1 - at
			}
		}
		return len(s) - at
	case '$':
		return dollarQuotedLength(s[at:])
	default:
		return 0
	}
}

// dollarQuotedLength returns the length of the dollar-quoted string at the start of s, or 0.
func dollarQuotedLength(s string) int {
	name, _, found := strings.Cut(s[1:], "$")
	if !found || strings.ContainsFunc(name, func(r rune) bool { return !isLetter(r) && (r < '0' || r > '9') }) {
		return 0
	}
	tag := s[:len(name)+2]
	if end := strings.Index(s[len(tag):], tag); end >= 0 {
		return end + 2*len(tag)
	}
	return len(s)
}

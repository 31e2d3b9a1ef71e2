package faults

import "strings"

// commits reports whether one of the statements of a script is COMMIT or END. It knows strings, quoted names and comments
// (PostgreSQL manual, "Lexical Structure").
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

// nextWord skips blanks and comments and returns the letters that follow.
func nextWord(s string) (word, rest string) {
	for s != "" {
		trimmed := strings.TrimLeft(s, " \t\r\n\f\v")
		if n := comment(trimmed); n > 0 {
			s = trimmed[n:]
			continue
		}
		end := strings.IndexFunc(trimmed, func(r rune) bool { return !letter(r) })
		if end < 0 {
			end = len(trimmed)
		}
		return trimmed[:end], trimmed[end:]
	}
	return "", ""
}

func letter(r rune) bool { return r == '_' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' }

// nextStatement returns what follows the next semicolon that ends a statement, "" when there is none.
func nextStatement(s string) string {
	for at := 0; at < len(s); {
		switch n := max(comment(s[at:]), quoted(s, at)); {
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

// comment returns the length of the comment at the start of s, 0 when there is none.
func comment(s string) int {
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

// quoted returns the length of the string or quoted name that starts at s[at], 0 when there is none.
func quoted(s string, at int) int {
	switch s[at] {
	case '\'', '"':
		escapes := s[at] == '\'' && at > 0 && strings.EqualFold(s[at-1:at], "e") && (at == 1 || !letter(rune(s[at-2])))
		for end := at + 1; end < len(s); end++ {
			if escapes && s[end] == '\\' {
				end++
			} else if s[end] == s[at] { // a doubled quote is two strings side by side
				return end + 1 - at
			}
		}
		return len(s) - at
	case '$':
		return dollarQuoted(s[at:])
	default:
		return 0
	}
}

// dollarQuoted returns the length of the string between $tag$ and $tag$ at the start of s, 0 when there is none.
func dollarQuoted(s string) int {
	name, _, found := strings.Cut(s[1:], "$")
	if !found || strings.ContainsFunc(name, func(r rune) bool { return !letter(r) && (r < '0' || r > '9') }) {
		return 0
	}
	tag := s[:len(name)+2]
	if end := strings.Index(s[len(tag):], tag); end >= 0 {
		return end + 2*len(tag)
	}
	return len(s)
}

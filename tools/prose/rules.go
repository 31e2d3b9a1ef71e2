package main

import (
	"fmt"
	"regexp"
	"strings"
)

// rules are the parsed rules of rules.txt.
type rules struct {
	words, starts []pattern
	names, parts  map[string]string
	files         map[string]string
	exceptions    []exception
}

type pattern struct {
	match   *regexp.Regexp
	instead string
}

// exception permits a text, or a kind of rule, below a path.
type exception struct{ path, what string }

func parseRules(text string) (*rules, error) {
	r := &rules{names: map[string]string{}, parts: map[string]string{}, files: map[string]string{}}
	for number, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		rule, instead, ok := strings.Cut(line, " => ")
		kind, what, found := strings.Cut(rule, " ")
		if !ok || !found || instead == "" {
			return nil, fmt.Errorf("rules.txt:%d: want KIND WHAT => TEXT", number+1)
		}
		var err error
		switch kind {
		case "word":
			r.words, err = add(r.words, `(?i)\b(?:`+strings.ReplaceAll(what, " ", `\s+`)+`)\b`, instead)
		case "start":
			r.starts, err = add(r.starts, `(?i)^`+what+`\b`, instead)
		case "name":
			r.names[what] = instead
		case "part":
			r.parts[what] = instead
		case "file":
			r.files[what] = instead
		case "except":
			path, permitted, ok := strings.Cut(what, " ")
			if !ok {
				return nil, fmt.Errorf("rules.txt:%d: want except PATH WHAT => REASON", number+1)
			}
			r.exceptions = append(r.exceptions, exception{path, strings.ToLower(permitted)})
		default:
			return nil, fmt.Errorf("rules.txt:%d: no kind %q", number+1, kind)
		}
		if err != nil {
			return nil, fmt.Errorf("rules.txt:%d: %w", number+1, err)
		}
	}
	return r, nil
}

func add(patterns []pattern, expression, instead string) ([]pattern, error) {
	match, err := regexp.Compile(expression)
	return append(patterns, pattern{match, instead}), err
}

// permits reports whether an exception covers what was found in a file by a rule of this kind.
func (r *rules) permits(file, kind, found string) bool {
	for _, e := range r.exceptions {
		if strings.HasPrefix(file, e.path) && (e.what == kind || e.what == strings.ToLower(found)) {
			return true
		}
	}
	return false
}

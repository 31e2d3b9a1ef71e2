package main

import (
	"errors"
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
	number := 0
	for line := range strings.SplitSeq(text, "\n") {
		number++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := r.parse(line); err != nil {
			return nil, fmt.Errorf("rules.txt:%d: %w", number, err)
		}
	}
	return r, nil
}

var errForm = errors.New("want KIND WHAT => TEXT")

func (r *rules) parse(line string) (err error) {
	rule, instead, ok := strings.Cut(line, " => ")
	kind, what, found := strings.Cut(rule, " ")
	if !ok || !found || instead == "" {
		return errForm
	}
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
			return errForm
		}
		r.exceptions = append(r.exceptions, exception{path, permitted})
	default:
		return errForm
	}
	return err
}

func add(patterns []pattern, expression, instead string) ([]pattern, error) {
	match, err := regexp.Compile(expression)
	if err != nil {
		return nil, fmt.Errorf("compile: %w", err)
	}
	return append(patterns, pattern{match, instead}), nil
}

// permits reports whether an exception covers what was found in a file by a rule of this kind.
func (r *rules) permits(file, kind, found string) bool {
	for _, e := range r.exceptions {
		if strings.HasPrefix(file, e.path) && (e.what == kind || strings.EqualFold(e.what, found)) {
			return true
		}
	}
	return false
}

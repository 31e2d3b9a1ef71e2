package main

import (
	"fmt"
	"regexp"
	"strings"
)

const (
	maxWords  = 25
	maxBreaks = 1 // semicolons and colons
)

// checker collects the findings of one file.
type checker struct {
	rules    *rules
	file     string
	findings []finding
}

func (c *checker) reportf(line int, kind, found, format string, args ...any) {
	if !c.rules.permits(c.file, kind, found) {
		c.findings = append(c.findings, finding{c.file, line, fmt.Sprintf(format, args...)})
	}
}

// words checks a text for words that the project does not use.
func (c *checker) words(line int, text string) {
	for _, p := range c.rules.words {
		for _, at := range p.match.FindAllStringIndex(text, -1) {
			found := text[at[0]:at[1]]
			c.reportf(line+strings.Count(text[:at[0]], "\n"), "word", strings.ReplaceAll(found, "\n", " "), "%q: %s", found, p.instead)
		}
	}
}

// paragraph is a run of sentences and the line that it begins at.
type paragraph struct {
	line int
	text string
}

func (p *paragraph) add(line int, text string) {
	if p.text == "" {
		p.line = line
	} else {
		p.text += "\n"
	}
	p.text += text
}

// flush checks a paragraph and empties it.
func (c *checker) flush(p *paragraph) {
	if p.text != "" {
		c.words(p.line, code.ReplaceAllString(p.text, "code"))
		c.sentences(*p)
	}
	*p = paragraph{}
}

var (
	code         = regexp.MustCompile("``[^`]*``|`[^`]*`")
	link         = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
	url          = regexp.MustCompile(`https?://\S+`)
	parenthesis  = regexp.MustCompile(`\([^()]*\)`)
	sentenceEnd  = regexp.MustCompile(`[.!?…]["')\]*_]*(?:\s+|$)`)
	abbreviation = regexp.MustCompile(`\b(e\.g|i\.e|vs|etc|cf|No)\.`)
	breaks       = regexp.MustCompile(`[;:](?:\s|$)`)
	letter       = regexp.MustCompile(`[\pL\d]`)
)

// sentences checks each sentence of a paragraph.
func (c *checker) sentences(p paragraph) {
	text := code.ReplaceAllString(link.ReplaceAllString(p.text, "$1"), "code")
	text = abbreviation.ReplaceAllString(url.ReplaceAllString(text, "URL"), "$1")
	for len(text) > 0 {
		end := len(text)
		if at := sentenceEnd.FindStringIndex(text); at != nil {
			end = at[1]
		}
		sentence := text[:end]
		text = text[end:]
		c.sentence(p.line, strings.TrimSpace(sentence))
		p.line += strings.Count(sentence, "\n")
	}
}

func (c *checker) sentence(line int, sentence string) {
	first := strings.Join(strings.Fields(sentence), " ")
	if len(first) > 40 {
		first = first[:40] + "…"
	}
	for _, p := range c.rules.starts {
		if p.match.MatchString(strings.TrimLeft(sentence, `*_"'([`)) && !strings.HasSuffix(sentence, "?") {
			c.reportf(line, "start", first, "%q starts with a relative clause: %s", first, p.instead)
		}
	}
	n := 0
	for field := range strings.FieldsSeq(sentence) {
		if letter.MatchString(field) {
			n++
		}
	}
	if n > maxWords {
		c.reportf(line, "length", first, "%q has %d words; at most %d", first, n, maxWords)
	}
	if found := len(breaks.FindAllString(parenthesis.ReplaceAllString(sentence, ""), -1)); found > maxBreaks {
		c.reportf(line, "breaks", first, "%q has %d semicolons and colons; at most %d", first, found, maxBreaks)
	}
}

var listItem = regexp.MustCompile(`^\s*(?:[-*+]|\d+\.)\s+`)

// markdown checks a page. Fenced and indented code is left out; a heading is no sentence.
func (c *checker) markdown(text string) {
	var current paragraph
	fenced := false
	for i, line := range strings.Split(text, "\n") {
		number, trimmed := i+1, strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(trimmed, "```"):
			c.flush(&current)
			fenced = !fenced
		case fenced, trimmed == "", strings.HasPrefix(trimmed, "<!--"):
			c.flush(&current)
		case strings.HasPrefix(line, "    ") && current.text == "":
		case strings.HasPrefix(trimmed, "#"):
			c.flush(&current)
			c.words(number, trimmed)
		case strings.HasPrefix(trimmed, "|"):
			c.flush(&current)
			for cell := range strings.SplitSeq(code.ReplaceAllString(trimmed, "code"), "|") {
				c.flush(&paragraph{number, strings.TrimSpace(cell)})
			}
		case listItem.MatchString(line):
			c.flush(&current)
			current.add(number, strings.TrimSpace(listItem.ReplaceAllString(line, "")))
		default:
			current.add(number, trimmed)
		}
	}
	c.flush(&current)
}

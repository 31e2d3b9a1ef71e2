package main

import (
	"slices"
	"strings"
	"testing"
)

func TestChecker_Finds(t *testing.T) {
	t.Parallel()
	rules, err := parseRules(rulesText)
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("word ", maxWords) + "word."
	for name, test := range map[string]struct{ source, finds string }{
		"a banned word":               {"// Retry is done again.\nfunc a() {}", `"done again"`},
		"one across lines":            {"// Retry is done\n// again.\nfunc a() {}", "retried"},
		"one in a string":             {"var a = \"nobody can\"", `"nobody"`},
		"a component that speaks":     {"// a is what the server says.\nfunc a() {}", `"says"`},
		"a headless clause":           {"// What runs here joins.\nfunc a() {}", "relative clause"},
		"a long sentence":             {"// A " + long + "\nfunc a() {}", "27 words"},
		"three parts":                 {"// Do this: one; two.\nfunc a() {}", "semicolons"},
		"a name":                      {"func look() {}", "identifier look"},
		"a word in a name":            {"type badVerdict int", `"verdict"`},
		"a parameter":                 {"func a(whole int) {}", "identifier whole"},
		"a variable":                  {"func a() { whole := 1; _ = whole }", "identifier whole"},
		"a test that is a sentence":   {"func TestAllIsWell(t *testing.T) {}", "TestSubject_Behaviour"},
		"a reason beside a directive": {"var a int //nolint:x // nobody", `"nobody"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := checker{rules: rules, file: "a_test.go"}
			if err := c.goFile([]byte("package a\n\n" + test.source + "\n")); err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(c.findings, func(f finding) bool { return strings.Contains(f.text, test.finds) }) {
				t.Errorf("found %v, want one with %q", c.findings, test.finds)
			}
		})
	}
}

func TestChecker_Permits(t *testing.T) {
	t.Parallel()
	rules, err := parseRules(rulesText)
	if err != nil {
		t.Fatal(err)
	}
	for name, source := range map[string]string{
		"what is short":    "// a returns the number of rows. It is safe for concurrent use.\nfunc a() {}",
		"a question":       "// What is it?\nfunc a() {}",
		"code":             "// a calls:\n//\n//\tnobody.Says(whatever)\nfunc a() {}",
		"an import":        `import _ "nobody says"`,
		"lookup":           "func lookup() {}",
		"a good test name": "func TestChecker_Finds(t *testing.T) {}",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := checker{rules: rules, file: "a_test.go"}
			if err := c.goFile([]byte("package a\n\n" + source + "\n")); err != nil {
				t.Fatal(err)
			}
			if len(c.findings) > 0 {
				t.Errorf("found %v", c.findings)
			}
		})
	}
}

func TestChecker_ReadsMarkdown(t *testing.T) {
	t.Parallel()
	rules, err := parseRules("word nobody => no caller\nexcept old/ nobody => history\n")
	if err != nil {
		t.Fatal(err)
	}
	page := "# Nobody\n\ntext `nobody`\n\n```\nnobody\n```\n\n| nobody | x |\n\n- one\n- nobody\n"
	for file, want := range map[string]int{"new/page.md": 3, "old/page.md": 0} {
		c := checker{rules: rules, file: file}
		c.markdown(page)
		if len(c.findings) != want {
			t.Errorf("%s: %d findings, want %d: %v", file, len(c.findings), want, c.findings)
		}
	}
}

func TestParseRules_NamesLine(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"word x", "word ( => y", "nonsense x => y", "except x => y"} {
		if _, err := parseRules("# comment\n" + text); err == nil || !strings.Contains(err.Error(), "rules.txt:2") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

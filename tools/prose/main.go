// Command prose checks the words of the project: identifiers, file names, comments and string literals of Go files, and
// Markdown. The rules stand in rules.txt. It prints one line for each finding and exits with 1 when there is any.
//
// Usage, from the module tools:
//
//	go run ./prose [path ...]
//
// The paths are relative to the repository's root. Without a path it checks every file that git tracks.
package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

//go:embed rules.txt
var rulesText string

func main() {
	findings, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "prose:", err)
		os.Exit(2)
	}
	for _, f := range findings {
		fmt.Println(f)
	}
	if len(findings) > 0 {
		fmt.Printf("prose: %d findings; tools/prose/rules.txt has the rules and the exceptions\n", len(findings))
		os.Exit(1)
	}
}

func run(paths []string) ([]finding, error) {
	rules, err := parseRules(rulesText)
	if err != nil {
		return nil, err
	}
	root, err := exec.Command("git", "rev-parse", "--show-toplevel").Output()
	if err != nil {
		return nil, fmt.Errorf("find the repository: %w", err)
	}
	git := exec.Command("git", append([]string{"ls-files", "-z", "--cached", "--others", "--exclude-standard", "--"}, paths...)...)
	git.Dir = strings.TrimSpace(string(root))
	list, err := git.Output()
	if err != nil {
		return nil, fmt.Errorf("list files: %w", err)
	}
	var findings []finding
	for name := range strings.SplitSeq(string(bytes.TrimRight(list, "\x00")), "\x00") {
		kind := filepath.Ext(name)
		if kind != ".go" && kind != ".md" || strings.HasPrefix(name, "tools/prose/") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(git.Dir, name))
		if os.IsNotExist(err) {
			continue // deleted and not committed yet
		} else if err != nil {
			return nil, err
		}
		c := checker{rules: rules, file: name}
		if kind == ".go" {
			err = c.goFile(text)
		} else {
			c.markdown(string(text))
		}
		if err != nil {
			return nil, err
		}
		findings = append(findings, c.findings...)
	}
	slices.SortStableFunc(findings, func(a, b finding) int {
		if a.file != b.file {
			return strings.Compare(a.file, b.file)
		}
		return a.line - b.line
	})
	return findings, nil
}

// finding is one violation of a rule.
type finding struct {
	file string
	line int
	text string
}

func (f finding) String() string { return fmt.Sprintf("%s:%d: %s", f.file, f.line, f.text) }

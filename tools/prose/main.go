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
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
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
		_, _ = fmt.Fprintln(os.Stdout, f)
	}
	if len(findings) > 0 {
		_, _ = fmt.Fprintf(os.Stdout, "prose: %d findings; tools/prose/rules.txt has the rules and the exceptions\n", len(findings))
		os.Exit(1)
	}
}

// run checks the files that git tracks, or will, below the paths.
func run(paths []string) ([]finding, error) {
	rules, err := parseRules(rulesText)
	if err != nil {
		return nil, err
	}
	root, err := git(".", "rev-parse", "--show-toplevel")
	if err != nil {
		return nil, err
	}
	root = strings.TrimSpace(root)
	list, err := git(root, append([]string{"ls-files", "-z", "--cached", "--others", "--exclude-standard", "--"}, paths...)...)
	if err != nil {
		return nil, err
	}
	var findings []finding
	for name := range strings.SplitSeq(strings.TrimRight(list, "\x00"), "\x00") {
		found, err := check(rules, root, name)
		if err != nil {
			return nil, err
		}
		findings = append(findings, found...)
	}
	slices.SortStableFunc(findings, func(a, b finding) int {
		return cmp.Or(strings.Compare(a.file, b.file), a.line-b.line)
	})
	return findings, nil
}

func git(dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(context.Background(), "git", args...) //nolint:gosec // arguments of the developer who runs it
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w", args[0], err)
	}
	return string(out), nil
}

// check checks one file. Files that are neither Go nor Markdown, and the rules themselves, have no findings.
func check(rules *rules, root, name string) ([]finding, error) {
	kind := filepath.Ext(name)
	if kind != ".go" && kind != ".md" || strings.HasPrefix(name, "tools/prose/") {
		return nil, nil
	}
	text, err := os.ReadFile(filepath.Join(root, name)) //nolint:gosec // a file of the repository
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // deleted and not committed yet
	} else if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	c := checker{rules: rules, file: name}
	if kind == ".md" {
		c.markdown(string(text))
		return c.findings, nil
	}
	return c.findings, c.goFile(text)
}

// finding is one violation of a rule.
type finding struct {
	file string
	line int
	text string
}

func (f finding) String() string { return fmt.Sprintf("%s:%d: %s", f.file, f.line, f.text) }

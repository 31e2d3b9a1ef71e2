package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// guideBlock matches a block of the guide and the comment before it.
var guideBlock = regexp.MustCompile("(?s)(?:<!-- ([^\n]+) -->\n)?```(go|sql|sh|text)\n(.*?)```")

// TestGuide_RunsAsWritten follows docs/getting-started.md in an empty directory: it saves the files, runs the commands and
// compares the output. Only the module's source is replaced by this checkout, and port 8080 by a free one.
func TestGuide_RunsAsWritten(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it builds an application")
	}
	text, err := os.ReadFile("../../docs/getting-started.md")
	require.NoError(t, err)
	address := freeAddress(t)
	terminal := newShell(t, t.TempDir())
	var server *process
	var output string
	for _, block := range guideBlock.FindAllStringSubmatch(string(text), -1) {
		note, language, code := block[1], block[2], strings.ReplaceAll(block[3], "127.0.0.1:8080", address)
		if note == "interrupt" {
			server.interrupt()
		}
		switch {
		case note == "background":
			server = startProcess(t, terminal.dir, code)
			server.waitFor("serving")
		case note == "output of the background":
			requireOutput(t, code, server.output(strings.Count(code, "\n")))
		case language == "go":
			_, name, _ := strings.Cut(note, ": ")
			terminal.save(name, code)
		case language == "sql":
			name := strings.TrimPrefix(note, "file ")
			example, err := os.ReadFile(name)
			require.NoError(t, err)
			require.Equal(t, string(example), code, name)
			terminal.save(name, code)
		case language == "sh":
			if modules, found := strings.CutPrefix(code, "go get "); found {
				terminal.useCheckout(strings.Fields(modules))
				continue
			}
			output = terminal.run(code)
		case language == "text":
			requireOutput(t, code, output)
		}
	}
}

// requireOutput compares output with lines of the guide. "…" stands for any text, as a line for any lines.
func requireOutput(t *testing.T, want, got string) {
	t.Helper()
	pattern := regexp.QuoteMeta(want)
	pattern = regexp.MustCompile(`(?m)^…\n`).ReplaceAllString(pattern, `(?:.*\n)*`)
	pattern = strings.ReplaceAll(pattern, "…", `.*`)
	require.Regexp(t, `^`+pattern+`$`, got)
}

// freeAddress returns an address on which no process listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	return listener.Addr().String()
}

// shell is a terminal in which the commands of the guide run, one after the other.
type shell struct {
	t     *testing.T
	dir   string // the directory of the application
	stdin io.Writer
	out   *bufio.Scanner
}

func newShell(t *testing.T, dir string) *shell {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "bash") // ends with its input
	cmd.Dir, cmd.Env = dir, environment()
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = cmd.Stdout
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		assert.NoError(t, stdin.Close())
		assert.NoError(t, cmd.Wait())
	})
	s := &shell{t: t, dir: filepath.Join(dir, "bank"), stdin: stdin, out: bufio.NewScanner(stdout)}
	s.run("set -eo pipefail")
	return s
}

// environment returns the environment without the settings of other databases and workspaces.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, "DATABASE_") || strings.HasPrefix(variable, "GOWORK=")
	})
}

// run returns the output of commands. A command that fails ends the shell and the test.
func (s *shell) run(commands string) string {
	s.t.Helper()
	const end = "--- end of the block ---"
	_, err := fmt.Fprintf(s.stdin, "%s\nprintf '\\n%%s\\n' '%s'\n", commands, end)
	require.NoError(s.t, err)
	var output strings.Builder
	for s.out.Scan() {
		if s.out.Text() == end {
			return strings.TrimSuffix(output.String(), "\n") // the line break before the mark
		}
		output.WriteString(s.out.Text() + "\n")
	}
	require.FailNow(s.t, "a command failed", "%s\n%s", commands, output.String())
	return ""
}

func (s *shell) save(name, content string) {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	require.NoError(s.t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(s.t, os.WriteFile(path, []byte(content), 0o600))
}

// useCheckout requires modules of the library as this checkout has them, with the checksums of the examples.
func (s *shell) useCheckout(modules []string) {
	s.t.Helper()
	sums, err := os.ReadFile("../go.sum")
	require.NoError(s.t, err)
	s.save("go.sum", string(sums))
	for _, module := range modules {
		path, err := filepath.Abs("../.." + strings.TrimPrefix(module, "github.com/rdsfx-go/rdsfx"))
		require.NoError(s.t, err)
		s.run(fmt.Sprintf("go mod edit -require=%[1]s@v0.0.0 -replace=%[1]s=%[2]s", module, path))
	}
}

// process is a command that runs in the background.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string
	seen  []string
}

func startProcess(t *testing.T, dir, commands string) *process {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-ec", commands)
	cmd.Dir, cmd.Env = dir, environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C goes to a whole group
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = cmd.Stdout
	require.NoError(t, cmd.Start())
	p := &process{t: t, cmd: cmd, lines: make(chan string, 1000)}
	go func() {
		defer close(p.lines)
		for scanner := bufio.NewScanner(stdout); scanner.Scan(); {
			p.lines <- scanner.Text()
		}
	}()
	return p
}

// waitFor reads the output until a line contains text.
func (p *process) waitFor(text string) {
	p.t.Helper()
	for line := range p.lines {
		p.seen = append(p.seen, line)
		if strings.Contains(line, text) {
			return
		}
	}
	require.FailNow(p.t, "the process ended", strings.Join(p.seen, "\n"))
}

// output returns the last lines that were read.
func (p *process) output(lines int) string {
	return strings.Join(p.seen[max(0, len(p.seen)-lines):], "\n") + "\n"
}

// interrupt sends Ctrl-C and waits for the end of the process.
func (p *process) interrupt() {
	p.t.Helper()
	require.NoError(p.t, syscall.Kill(-p.cmd.Process.Pid, syscall.SIGINT))
	for line := range p.lines {
		p.seen = append(p.seen, line)
	}
	_ = p.cmd.Wait() // go run reports the interrupt as a failure
	require.Contains(p.t, p.output(1), "health monitor stopped", "the application stopped in order")
}

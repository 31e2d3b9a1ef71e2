// Package guiderun runs the commands of a guide in a test, as a reader types them.
package guiderun

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

// block matches a block of the guide and the comment before it.
var block = regexp.MustCompile("(?s)(?:<!-- ([^\n]+) -->\n)?```(go|sql|sh|text)\n(.*?)```")

// Follow reads a guide from the start to the end and does what it states. Port 8080 becomes a free one, which servers get in
// the variable ADDR.
//
//   - A block of Go or SQL is saved in the directory of the application. `<!-- from FILE: REGION -->` or `<!-- file NAME -->` before
//     it gives its name. The SQL must be equal to the file of that name in the directory of the test.
//   - A block of sh runs in the terminal, and the text block after it is its output. "…" stands for any text, as a line for
//     any lines.
//   - `<!-- background -->` marks commands that run until `<!-- interrupt -->` or the end of the test. Follow waits until they
//     print "serving". `<!-- output of the background -->` marks their last lines.
func Follow(t *testing.T, guide string, terminal *Shell) {
	t.Helper()
	text, err := os.ReadFile(guide)
	require.NoError(t, err)
	address := freeAddress(t)
	var server *process
	var output string
	for _, match := range block.FindAllStringSubmatch(string(text), -1) {
		note, language, code := match[1], match[2], match[3]
		if language == "sh" || language == "text" {
			code = strings.ReplaceAll(code, "127.0.0.1:8080", address)
		}
		if note == "interrupt" {
			server.interrupt()
		}
		switch {
		case note == "background":
			server = startProcess(t, terminal.dir, code, address)
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
			output = terminal.run(code)
		case language == "text":
			requireOutput(t, code, output)
		}
	}
	if server != nil {
		server.stop()
	}
}

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

// Shell is a terminal in which commands run, one after the other.
type Shell struct {
	t         *testing.T
	dir       string // the directory of the application
	overrides map[string]func(arguments []string)
	stdin     io.Writer
	out       *bufio.Scanner
}

// NewShell opens a terminal in the directory start. Files are saved in dir, where commands of the background run too.
func NewShell(t *testing.T, start, dir string) *Shell {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "bash") // ends with its input
	cmd.Dir, cmd.Env = start, environment()
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
	s := &Shell{t: t, dir: dir, overrides: map[string]func([]string){}, stdin: stdin, out: bufio.NewScanner(stdout)}
	s.run("set -eo pipefail")
	return s
}

// UseCheckout makes `go get` use modules of the library as this checkout has them, with the checksums in the file sums.
func (s *Shell) UseCheckout(root, sums string) {
	s.t.Helper()
	root, err := filepath.Abs(root)
	require.NoError(s.t, err)
	checksums, err := os.ReadFile(sums)
	require.NoError(s.t, err)
	s.overrides["go get "] = func(modules []string) {
		s.save("go.sum", string(checksums))
		for _, module := range modules {
			path := root + strings.TrimPrefix(module, "github.com/rdsfx-go/rdsfx")
			s.run(fmt.Sprintf("go mod edit -require=%[1]s@v0.0.0 -replace=%[1]s=%[2]s", module, path))
		}
	}
}

// environment returns the environment without the settings of other databases and workspaces.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, "DATABASE_") || strings.HasPrefix(variable, "GOWORK=")
	})
}

// run returns the output of commands. A command that fails ends the shell and the test.
func (s *Shell) run(commands string) string {
	s.t.Helper()
	for prefix, override := range s.overrides {
		if arguments, found := strings.CutPrefix(commands, prefix); found {
			override(strings.Fields(arguments))
			return ""
		}
	}
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

func (s *Shell) save(name, content string) {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	require.NoError(s.t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(s.t, os.WriteFile(path, []byte(content), 0o600))
}

// process is a command that runs in the background.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string
	seen  []string
}

func startProcess(t *testing.T, dir, commands, address string) *process {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-ec", commands)
	cmd.Dir, cmd.Env = dir, append(environment(), "ADDR="+address)
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

// interrupt sends Ctrl-C and waits for the orderly end of the application.
func (p *process) interrupt() {
	p.t.Helper()
	p.stop()
	require.Contains(p.t, p.output(1), "health monitor stopped", "the application stopped in order")
}

// stop sends Ctrl-C and waits for the end of the process. It may be called again.
func (p *process) stop() {
	if p.cmd.ProcessState != nil {
		return
	}
	require.NoError(p.t, syscall.Kill(-p.cmd.Process.Pid, syscall.SIGINT))
	for line := range p.lines {
		p.seen = append(p.seen, line)
	}
	_ = p.cmd.Wait() // go run reports the interrupt as a failure
}

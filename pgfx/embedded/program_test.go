//go:build linux

package embedded_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	"go.uber.org/goleak"

	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/postgres"
)

// Tests about the end of a program run this test binary a second time. envProgram selects one of the programs below.
const (
	envProgram = "RDSFX_EMBEDDED_TEST_PROGRAM"
	envDir     = "RDSFX_EMBEDDED_TEST_DIR"
	envURL     = "RDSFX_EMBEDDED_TEST_URL"
)

var programs = map[string]func(){
	"panic":          func() { report(mustStart()); awaitInput(); panic("on purpose") },
	"exit":           func() { report(mustStart()); awaitInput(); os.Exit(3) },
	"wait":           func() { report(mustStart()); select {} },
	"wait-tcp":       func() { report(mustStart(embedded.TCP())); select {} },
	"start":          func() { printLine("{}"); mustStart(); select {} },
	"start-on-input": func() { printLine("{}"); awaitInput(); report(mustStart()); select {} },
	"persistent":     runPersistent,
	"app":            runApp,
	"connect":        runConnect,
	"parent":         runParent,
	"share":          func() { report(mustShare()); select {} },
	"share-tcp":      func() { report(mustShare(embedded.TCP())); select {} },
	"share-quietly":  func() { printLine("{}"); mustShare(); select {} },
	"share-on-input": func() { printLine("{}"); awaitInput(); report(mustShare()); select {} },
	"download":       func() { report(mustStart(embedded.NothingInstalled(""))); select {} },
	"share-download": func() { report(mustShare(embedded.NothingInstalled(""))); select {} },
	"share-leaks":    func() { mustShare(); printLine("leaks: ", goleak.Find()); os.Exit(7) },
}

// runProgram runs the selected program, if any.
func runProgram() bool {
	name, ok := os.LookupEnv(envProgram)
	if ok {
		programs[name]()
	}
	return ok
}

// serverInfo is what a program reports about its server.
type serverInfo struct {
	URL     string `json:"url"`
	Dir     string `json:"dir"`
	DataDir string `json:"data_dir"`
	PID     int    `json:"pid"`
	Keeper  int    `json:"keeper"`
}

func infoOf(server *embedded.Server) serverInfo {
	return serverInfo{
		URL: server.URL(), Dir: server.Dir(), DataDir: server.DataDir(),
		PID: server.PID(), Keeper: parentOf(server.PID()),
	}
}

func printLine(values ...any) { _, _ = fmt.Fprintln(os.Stdout, fmt.Sprint(values...)) }

func report(server *embedded.Server) { _ = json.NewEncoder(os.Stdout).Encode(infoOf(server)) }

func awaitInput() { _, _ = os.Stdin.Read(make([]byte, 1)) }

func mustStart(opts ...embedded.Option) *embedded.Server {
	server, err := embedded.Start(context.Background(), append(opts, embedded.TempDir(os.Getenv(envDir)))...)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return server
}

func mustShare(opts ...embedded.Option) *embedded.Server {
	server, err := embedded.Shared(context.Background(), append(opts, embedded.TempDir(os.Getenv(envDir)))...)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return server
}

// runPersistent runs a persistent server whose data and a file are removed if the program is killed. It stops the server on
// input.
func runPersistent() {
	dataDir, file := filepath.Join(os.Getenv(envDir), "data"), filepath.Join(os.Getenv(envDir), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		panic(err)
	}
	server := mustStart(embedded.Persistent(dataDir), embedded.RemoveWhenOrphaned(dataDir, file))
	report(server)
	awaitInput()
	if err := server.Stop(context.Background()); err != nil {
		panic(err)
	}
}

// runApp runs an Fx application. Its stop hook runs before the server's and uses the database.
func runApp() {
	var server *embedded.Server
	app := fx.New(
		embedded.Module, fx.NopLogger, fx.Populate(&server),
		embedded.ProvideOptions(embedded.TempDir(os.Getenv(envDir))),
		fx.Invoke(func(lc fx.Lifecycle, endpoint pgfx.Endpoint) {
			lc.Append(fx.StopHook(func(ctx context.Context) error {
				conn, err := pgx.Connect(ctx, endpoint.URL)
				if err != nil {
					return err
				}
				printLine("connected")
				return conn.Close(ctx)
			}))
		}),
	)
	if err := app.Start(context.Background()); err != nil {
		panic(err)
	}
	shutdown := app.Wait()
	report(server)
	<-shutdown
	if err := app.Stop(context.Background()); err != nil {
		panic(err)
	}
}

// runConnect connects to another program's server and prints the error.
func runConnect() {
	_, err := pgx.Connect(context.Background(), os.Getenv(envURL))
	printLine(err)
	os.Exit(1)
}

// runParent starts a child that outlives it.
func runParent() {
	report(mustStart())
	child := exec.CommandContext(context.Background(), "sleep", "300")
	if err := child.Start(); err != nil {
		panic(err)
	}
	printLine(child.Process.Pid)
	select {}
}

// parentOf returns the parent of a process.
func parentOf(pid int) int {
	text, err := os.ReadFile(procPath(pid, "stat"))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	parent, _ := strconv.Atoi(strings.Fields(rest)[1])
	return parent
}

// kill sends a signal to one process, never to a process group.
func kill(t *testing.T, pid int, number syscall.Signal) {
	t.Helper()
	require.Greater(t, pid, 1)
	require.NoError(t, syscall.Kill(pid, number))
}

func procPath(pid int, parts ...string) string {
	return filepath.Join(append([]string{"/proc", strconv.Itoa(pid)}, parts...)...)
}

// program is a running program.
type program struct {
	cmd    *exec.Cmd
	out    *bufio.Reader
	in     *os.File
	server serverInfo
}

// settings say how to run a program. By default it is this test binary, run as this user.
type settings struct {
	path       string
	credential *syscall.Credential
	env        []string
	files      []*os.File
}

func (s settings) command(name string) *exec.Cmd {
	if s.path == "" {
		s.path, _ = os.Executable()
	}
	cmd := exec.CommandContext(context.Background(), s.path)
	cmd.Env = slices.Concat(os.Environ(), s.env, []string{envProgram + "=" + name})
	cmd.Dir = "/"
	cmd.ExtraFiles = s.files
	// A separate process group, as a shell creates.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: s.credential}
	return cmd
}

// failingOutput runs a program that fails and returns its output.
func failingOutput(t *testing.T, s settings, name string) string {
	t.Helper()
	out, err := s.command(name).CombinedOutput()
	require.Error(t, err, string(out))
	return string(out)
}

// run starts a program with its servers in dir and waits for its report.
func run(t *testing.T, name, dir string, env ...string) *program {
	t.Helper()
	return runWith(t, settings{env: env}, name, dir)
}

func runWith(t *testing.T, s settings, name, dir string) *program {
	t.Helper()
	p := launch(t, s, name, dir)
	p.awaitReport(t)
	return p
}

// launch starts a program and kills it at the end of the test.
func launch(tb testing.TB, s settings, name, dir string) *program {
	tb.Helper()
	inRead, inWrite, err := os.Pipe()
	require.NoError(tb, err)
	s.env = append(slices.Clone(s.env), envDir+"="+dir)
	cmd := s.command(name)
	cmd.Stdin = inRead
	out, err := cmd.StdoutPipe()
	require.NoError(tb, err)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	require.NoError(tb, cmd.Start())
	require.NoError(tb, inRead.Close())
	p := &program{cmd: cmd, out: bufio.NewReader(out), in: inWrite}
	tb.Cleanup(func() {
		_ = p.in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if tb.Failed() {
			tb.Log(stderr.String())
		}
	})
	return p
}

// awaitReport reads what the program reports about its server.
func (p *program) awaitReport(tb testing.TB) {
	tb.Helper()
	line, err := p.out.ReadBytes('\n')
	require.NoError(tb, err)
	require.NoError(tb, json.Unmarshal(line, &p.server))
}

// kill kills the program and waits for its end.
func (p *program) kill(t *testing.T) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Kill())
	require.Error(t, p.cmd.Wait())
}

// assertGone waits until the keeper, all processes of the server and its directory are gone.
func assertGone(t *testing.T, server serverInfo) {
	t.Helper()
	eventually(t, "the keeper ends", func() bool { return !isRunning(server.Keeper) })
	eventually(t, "the server ends", func() bool { return !isRunning(server.PID) })
	eventually(t, "the server's other processes end", func() bool { return len(postgres.Processes(server.DataDir)) == 0 })
	eventually(t, "the directory is removed", func() bool { _, err := os.Stat(server.Dir); return os.IsNotExist(err) })
}

// isRunning reports whether a process exists and isn't a zombie.
func isRunning(pid int) bool { return !postgres.HasEnded(pid) }

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
)

// roleVariable makes the test binary play another program, one that really ends in the way a test is about.
const (
	roleVariable = "RDSFX_EMBEDDED_TEST_ROLE"
	roleDir      = "RDSFX_EMBEDDED_TEST_DIR"
	roleURL      = "RDSFX_EMBEDDED_TEST_URL"
)

var roles = map[string]func(){
	"panic":    func() { announce(roleServer()); awaitInput(); panic("on purpose") },
	"exit":     func() { announce(roleServer()); awaitInput(); os.Exit(3) },
	"wait":     func() { announce(roleServer()); select {} },
	"orphan":   runOrphan,
	"app":      runApp,
	"connect":  runConnect,
	"late":     func() { say("{}"); awaitInput(); announce(roleServer()); select {} },
	"parent":   runParent,
	"share":    func() { announce(roleShared()); select {} },
	"second":   func() { say("{}"); awaitInput(); announce(roleShared()); select {} },
	"lean":     func() { roleShared(); say(fmt.Sprint("leaks: ", goleak.Find())); os.Exit(7) },
	"sharer":   func() { say("{}"); roleShared(); select {} },
	"sharetcp": func() { announce(roleShared(embedded.TCP())); select {} },
	"tcp":      func() { announce(roleServer(embedded.TCP())); select {} },
	"starter":  func() { say("{}"); roleServer(); select {} },
}

// play runs the role that this process was started for.
func play() bool {
	role, is := os.LookupEnv(roleVariable)
	if is {
		roles[role]()
	}
	return is
}

// facts is what a role tells the test about its server.
type facts struct {
	URL    string `json:"url"`
	Dir    string `json:"dir"`
	Data   string `json:"data"`
	PID    int    `json:"pid"`
	Keeper int    `json:"keeper"`
}

func factsOf(server *embedded.Server) facts {
	return facts{
		URL: server.URL(), Dir: server.Dir(), Data: server.DataDir(),
		PID: server.PID(), Keeper: parentOf(server.PID()),
	}
}

// say tells the test something.
func say(what any) { _, _ = fmt.Fprintln(os.Stdout, what) }

func announce(server *embedded.Server) { _ = json.NewEncoder(os.Stdout).Encode(factsOf(server)) }

func awaitInput() { _, _ = os.Stdin.Read(make([]byte, 1)) }

func roleServer(opts ...embedded.Option) *embedded.Server {
	server, err := embedded.Start(context.Background(), append(opts, embedded.TempDir(os.Getenv(roleDir)))...)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return server
}

// runOrphan has a persistent server whose data nobody wants without it.
func runOrphan() {
	data, note := filepath.Join(os.Getenv(roleDir), "data"), filepath.Join(os.Getenv(roleDir), "note")
	if err := os.WriteFile(note, nil, 0o600); err != nil {
		panic(err)
	}
	server := roleServer(embedded.Persistent(data), embedded.RemoveWhenOrphaned(data, note))
	announce(server)
	awaitInput()
	if err := server.Stop(context.Background()); err != nil {
		panic(err)
	}
}

// runApp is an ordinary Fx program. Its own stop hook, which runs before the server's, still needs the database.
func runApp() {
	var server *embedded.Server
	app := fx.New(
		embedded.Module, fx.NopLogger, fx.Populate(&server),
		embedded.ProvideOptions(embedded.TempDir(os.Getenv(roleDir))),
		fx.Invoke(func(lc fx.Lifecycle, endpoint pgfx.Endpoint) {
			lc.Append(fx.StopHook(func(ctx context.Context) error {
				conn, err := pgx.Connect(ctx, endpoint.URL)
				if err != nil {
					return err
				}
				say("still there")
				return conn.Close(ctx)
			}))
		}),
	)
	if err := app.Start(context.Background()); err != nil {
		panic(err)
	}
	asked := app.Wait()
	announce(server)
	<-asked
	if err := app.Stop(context.Background()); err != nil {
		panic(err)
	}
}

// runConnect tries to use a server of somebody else.
func runConnect() {
	_, err := pgx.Connect(context.Background(), os.Getenv(roleURL))
	say(err)
	os.Exit(1)
}

// runParent has a child that outlives it.
func runParent() {
	announce(roleServer())
	child := exec.CommandContext(context.Background(), "sleep", "300")
	if err := child.Start(); err != nil {
		panic(err)
	}
	say(child.Process.Pid)
	select {}
}

func roleShared(opts ...embedded.Option) *embedded.Server {
	server, err := embedded.Shared(context.Background(), append(opts, embedded.TempDir(os.Getenv(roleDir)))...)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return server
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

// kill sends a signal to one process, and never to a group by mistake.
func kill(t *testing.T, pid int, number syscall.Signal) {
	t.Helper()
	require.Greater(t, pid, 1)
	require.NoError(t, syscall.Kill(pid, number))
}

func procPath(pid int, parts ...string) string {
	return filepath.Join(append([]string{"/proc", strconv.Itoa(pid)}, parts...)...)
}

// actor is a running role.
type actor struct {
	cmd   *exec.Cmd
	out   *bufio.Reader
	in    *os.File
	facts facts
}

// stage is where a role is played: this test binary as this user, unless it says otherwise.
type stage struct {
	program    string
	credential *syscall.Credential
	env        []string
	files      []*os.File
}

func (s stage) command(role string) *exec.Cmd {
	if s.program == "" {
		s.program, _ = os.Executable()
	}
	cmd := exec.CommandContext(context.Background(), s.program)
	cmd.Env = slices.Concat(os.Environ(), s.env, []string{roleVariable + "=" + role})
	cmd.Dir = "/"
	cmd.ExtraFiles = s.files
	// Its own process group, as a shell makes one.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: s.credential}
	return cmd
}

// runAs plays a role to its end and returns what it says.
func runAs(t *testing.T, s stage, role string) string {
	t.Helper()
	out, err := s.command(role).CombinedOutput()
	require.Error(t, err, string(out))
	return string(out)
}

// act starts a role and waits until it has announced its server.
func act(t *testing.T, role, dir string, env ...string) *actor {
	t.Helper()
	return actAs(t, stage{env: env}, role, dir)
}

func actAs(t *testing.T, s stage, role, dir string) *actor {
	t.Helper()
	a := launch(t, s, role, dir)
	a.hear(t)
	return a
}

// launch starts a role.
func launch(tb testing.TB, s stage, role, dir string) *actor {
	tb.Helper()
	inRead, inWrite, err := os.Pipe()
	require.NoError(tb, err)
	s.env = append(slices.Clone(s.env), roleDir+"="+dir)
	cmd := s.command(role)
	cmd.Stdin = inRead
	out, err := cmd.StdoutPipe()
	require.NoError(tb, err)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	require.NoError(tb, cmd.Start())
	require.NoError(tb, inRead.Close())
	a := &actor{cmd: cmd, out: bufio.NewReader(out), in: inWrite}
	tb.Cleanup(func() {
		_ = a.in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if tb.Failed() {
			tb.Log(stderr.String())
		}
	})
	return a
}

// hear takes what the role announces.
func (a *actor) hear(tb testing.TB) {
	tb.Helper()
	line, err := a.out.ReadBytes('\n')
	require.NoError(tb, err)
	require.NoError(tb, json.Unmarshal(line, &a.facts))
}

// assertGone waits until nothing of the server is left: not the keeper, not the server nor a child of it, not a directory.
func assertGone(t *testing.T, f facts) {
	t.Helper()
	eventually(t, "the keeper ends", func() bool { return !running(f.Keeper) })
	eventually(t, "the server ends", func() bool { return !running(f.PID) })
	eventually(t, "the server's other processes end", func() bool { return len(embedded.Strays(f.Data)) == 0 })
	eventually(t, "the directory goes", func() bool { _, err := os.Stat(f.Dir); return os.IsNotExist(err) })
}

// running reports whether a process exists and isn't one that has ended and only waits to be noticed by its parent.
func running(pid int) bool {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

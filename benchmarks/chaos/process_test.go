package chaos_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// writerHost is the name under which applications reach the writer.
const writerHost = "writer.bank.test"

// processConfig is the work of a process. The process ends when its standard input ends.
type processConfig struct {
	Kind         string `json:"kind"` // a key of workloads
	Name         string `json:"name"` // application_name, and the prefix of its transfers
	URL          string `json:"url"`  // without a password
	AddressFile  string `json:"address_file"`
	PasswordFile string `json:"password_file"`
	Dir          string `json:"dir"` // for records and logs
	Seed         uint64 `json:"seed"`
	Number       int    `json:"number"` // differs from that of the other processes of a scene
	Hang         bool   `json:"hang"`   // of a service: one handler hangs
	// SampleEvery makes a bank record samples of its state instead of its transfers.
	SampleEvery time.Duration `json:"sample_every"`
}

// workload is what a process does until ctx ends. It returns what it left behind.
type workload func(ctx context.Context, config processConfig, records *recorder) error

var workloads = map[string]workload{
	"rdsfx":   runBank,
	"pgx":     runPlain,
	"service": runService,
}

func (c processConfig) records() string { return filepath.Join(c.Dir, c.Name+".records") }

func (c processConfig) log() string { return filepath.Join(c.Dir, c.Name+".log") }

// run runs the process.
func (c processConfig) run() error {
	work, ok := workloads[c.Kind]
	if !ok {
		return fmt.Errorf("no workload %q", c.Kind)
	}
	records, err := newRecorder(c.records())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0"); err == nil { // opens the files that the runtime keeps open
		_ = listener.Close()
	}
	before, running := openFiles(), goleak.IgnoreCurrent()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	err = work(ctx, c, records)
	left := &leftovers{}
	if err != nil {
		left.Close = err.Error()
	}
	if leaked := goleak.Find(running); leaked != nil {
		left.Goroutines = leaked.Error()
	}
	left.Files = newFiles(before)
	records.write(record{Leftovers: left})
	return nil
}

// openFiles returns the targets of the file descriptors of this process.
func openFiles() []string {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil
	}
	var files []string
	for _, entry := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + entry.Name()); err == nil { // not that of ReadDir itself
			files = append(files, target)
		}
	}
	return files
}

// newFiles returns the open files that are not in before. It waits a moment for files that are being closed.
func newFiles(before []string) []string {
	var added []string
	for range 100 {
		added = slices.DeleteFunc(openFiles(), func(file string) bool { return slices.Contains(before, file) })
		if len(added) == 0 {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return added
}

// resolve makes a connection resolve writerHost with the address file.
func (c processConfig) resolve(_ context.Context, config *pgx.ConnConfig) error {
	next := config.LookupFunc
	config.LookupFunc = func(ctx context.Context, host string) ([]string, error) {
		if host != writerHost {
			return next(ctx, host)
		}
		address, err := os.ReadFile(c.AddressFile)
		if err != nil {
			return nil, &net.DNSError{Err: err.Error(), Name: host}
		}
		return []string{string(address)}, nil // pgx accepts an address with a port
	}
	return nil
}

func (c processConfig) password() (string, error) {
	text, err := os.ReadFile(c.PasswordFile)
	return strings.TrimSpace(string(text)), err
}

// process is a running process of the suite.
type process struct {
	config processConfig
	cmd    *exec.Cmd
	stdin  io.Closer
	ended  chan struct{}
	err    error // set before ended is closed
	killed bool
}

// startProcess starts this binary again.
func startProcess(tb testing.TB, config processConfig) *process {
	tb.Helper()
	text, err := json.Marshal(config)
	require.NoError(tb, err)
	binary, err := os.Executable()
	require.NoError(tb, err)
	output, err := os.Create(config.log() + ".stderr")
	require.NoError(tb, err)
	defer func() { _ = output.Close() }()
	cmd := exec.CommandContext(context.Background(), binary)
	cmd.Env = append(os.Environ(), processEnv+"="+string(text))
	cmd.Stdout, cmd.Stderr = output, output
	stdin, err := cmd.StdinPipe()
	require.NoError(tb, err)
	require.NoError(tb, cmd.Start())
	p := &process{config: config, cmd: cmd, stdin: stdin, ended: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.ended)
	}()
	return p
}

// kill kills the process and waits for its end.
func (p *process) kill() {
	p.killed = true
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// stop ends the process in an orderly way.
func (p *process) stop(tb testing.TB, limit time.Duration) {
	tb.Helper()
	_ = p.stdin.Close()
	select {
	case <-p.ended:
		if p.err != nil {
			tb.Errorf("process %s: %v\n%s", p.config.Name, p.err, p.output())
		}
	case <-time.After(limit):
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // prints the goroutines
		<-p.ended
		tb.Errorf("process %s has not ended within %s\n%s", p.config.Name, limit, p.output())
	}
}

// output returns what the process has printed.
func (p *process) output() string {
	output, _ := os.ReadFile(p.config.log() + ".stderr")
	return string(output)
}

package embedded

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// readyPause is the time between two looks at whether the server is ready.
	readyPause = 2 * time.Millisecond
	// outputDelay is how long the output of a server that has ended is waited for.
	outputDelay = time.Second
)

// shutdown is one of the ways to end a server (PostgreSQL manual, "Shutting Down the Server").
type shutdown string

const (
	// fast ends the sessions and writes everything down: SIGINT.
	fast shutdown = "fast"
	// immediate ends the processes without writing; the next start recovers: SIGQUIT.
	immediate shutdown = "immediate"
	// killed is what is left when the server doesn't listen: SIGKILL.
	killed shutdown = "killed"
)

// stopPlan tells how long each way of ending the server gets before the next one.
type stopPlan struct {
	Fast      time.Duration `json:"fast"`
	Immediate time.Duration `json:"immediate"`
}

// postgres is a running server process.
type postgres struct {
	install installation
	data    string
	cmd     *exec.Cmd
	log     *serverLog

	// done is closed when the process has ended and has been waited for; err is set before.
	done chan struct{}
	err  error
}

// throwAwaySettings trade the durability of data that nobody keeps for speed. synchronous_commit stays on: off, a backend that
// crashes loses transactions that were acknowledged.
var throwAwaySettings = map[string]string{
	"fsync":              "off",
	"full_page_writes":   "off",
	"synchronous_commit": "on",
	"timezone":           "UTC",
	"log_timezone":       "UTC",
}

// settings returns the command line settings of the server that s describes, in a fixed order.
func (s spec) settings() []string {
	all := make(map[string]string)
	if runtime.GOOS != "windows" {
		// In the data directory, where it goes with it or with the next start: what a server that is killed leaves on /dev/shm stays.
		all["dynamic_shared_memory_type"] = "mmap"
	}
	if !s.Persistent {
		maps.Copy(all, throwAwaySettings)
	}
	maps.Copy(all, s.Settings)
	all["listen_addresses"] = ""
	if s.TCP {
		all["listen_addresses"] = loopback
	}
	all["port"] = strconv.Itoa(s.Port)
	all["unix_socket_directories"] = `"` + strings.ReplaceAll(socketDir(s.Dir), `"`, `""`) + `"`
	all["hba_file"] = hbaFile(s.Dir)
	all["logging_collector"] = "off"
	all["log_destination"] = "stderr"
	var args []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		args = append(args, "-c", name+"="+all[name])
	}
	return args
}

// startPostgres starts the server. It isn't ready yet when this returns.
func startPostgres(s spec, log *serverLog) (*postgres, error) {
	args := append([]string{"-D", s.Data}, s.settings()...)
	cmd := exec.CommandContext(context.Background(), s.Install.program("postgres"), args...) //nolint:gosec // the program that was resolved
	dress(cmd, s.User, syscall.SIGQUIT)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.WaitDelay = outputDelay
	p := &postgres{install: s.Install, data: s.Data, cmd: cmd, log: log, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// See runTool: the server must get its signal when the keeper dies, not when some thread of it ends.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
		}
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, explainStart(err, cmd.Path, s.User)
	}
	return p, nil
}

func (p *postgres) pid() int { return p.cmd.Process.Pid }

// awaitReady waits until the server accepts connections, which it notes in its pid file (as pg_ctl does, see
// "pg_ctl -w" in the manual).
func (p *postgres) awaitReady(ctx context.Context) error {
	ticker := time.NewTicker(readyPause)
	defer ticker.Stop()
	for {
		if note, err := readPIDFile(p.data); err == nil && note.pid == p.pid() && note.status == "ready" {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("the server ended while starting: %s%s", p.exit(), p.log.last())
		case <-ctx.Done():
			return fmt.Errorf("the server isn't ready: %w%s", context.Cause(ctx), p.log.last())
		case <-ticker.C:
		}
	}
}

// exit tells how a process that is done ended.
func (p *postgres) exit() string {
	if p.err == nil {
		return "exit status 0"
	}
	return p.err.Error()
}

// stop ends the server as gently as the plan allows and returns how.
func (p *postgres) stop(plan stopPlan) shutdown {
	how := killed
	for _, step := range []struct {
		how  shutdown
		time time.Duration
	}{{fast, plan.Fast}, {immediate, plan.Immediate}} {
		if step.time <= 0 {
			continue
		}
		if err := signalServer(p, step.how); err != nil && !errors.Is(err, os.ErrProcessDone) {
			continue
		}
		timer := time.NewTimer(step.time)
		select {
		case <-p.done:
			timer.Stop()
			return step.how
		case <-timer.C:
		}
	}
	_ = p.cmd.Process.Kill()
	<-p.done
	return how
}

// pidNote is what a server writes about itself into its data directory.
type pidNote struct {
	pid    int
	status string
	// socket is the directory of its Unix socket.
	socket string
	// segment is the number of its System V shared memory segment, -1 when there is none.
	segment int
}

// readPIDFile reads postmaster.pid: process, directory, start time, port, socket directory, address, shared memory, status.
func readPIDFile(data string) (pidNote, error) {
	text, err := os.ReadFile(filepath.Join(filepath.Clean(data), "postmaster.pid"))
	if err != nil {
		return pidNote{}, err
	}
	lines := strings.Split(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(lines[0]))
	if err != nil {
		return pidNote{}, fmt.Errorf("postmaster.pid: %w", err)
	}
	note := pidNote{pid: pid, segment: -1}
	if len(lines) > 4 {
		note.socket = strings.TrimSpace(lines[4])
	}
	if len(lines) > 6 {
		if fields := strings.Fields(lines[6]); len(fields) == 2 {
			if id, err := strconv.Atoi(fields[1]); err == nil {
				note.segment = id
			}
		}
	}
	if len(lines) > 7 {
		note.status = strings.TrimSpace(lines[7])
	}
	return note, nil
}

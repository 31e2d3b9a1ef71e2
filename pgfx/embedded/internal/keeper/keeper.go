package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rdsfx-go/rdsfx/internal/filelock"
	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/postgres"
)

// init turns a process that [Spawn] has started into a keeper. It exits before main, TestMain or the parsing of flags.
func init() { //nolint:gochecknoinits // only an init function runs before main in every program that imports this package
	if os.Getenv(envKeeper) != protocolVersion {
		return
	}
	commands, events, ok := inheritedPipes()
	if !ok {
		// The variable was set manually. Spawn reports it.
		return
	}
	_ = os.Unsetenv(envKeeper)
	detachFromParent()
	os.Exit(Run(commands, events, terminationSignals()))
}

// startAbortTimeout is how long a server that didn't become ready may take to stop.
const startAbortTimeout = 2 * time.Second

var (
	errOrphaned   = errors.New("the process that started the keeper has ended")
	errStopped    = errors.New("the keeper received the stop command")
	errTerminated = errors.New("the keeper received a termination signal")
)

// keeper owns one server.
type keeper struct {
	events *json.Encoder
	spec   Spec

	mu       sync.Mutex
	stopPlan postgres.StopPlan
}

// Run runs a keeper in this process and returns its exit status. It reads commands and writes events, both as JSON. It stops
// the server on the stop command, at the end of commands, or on a signal from terminate.
func Run(commands io.Reader, events io.Writer, terminate <-chan os.Signal) int {
	k := &keeper{events: json.NewEncoder(events)}
	k.send(event{Kind: eventHello})
	decoder := json.NewDecoder(commands)
	var first command
	if err := decoder.Decode(&first); err != nil || first.Spec == nil {
		k.send(event{Kind: eventFailed, Error: fmt.Sprintf("the keeper received no specification: %v", err)})
		return 1
	}
	k.spec, k.stopPlan = *first.Spec, first.Spec.orphanPlan()

	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	if k.spec.Shared == nil {
		go k.receive(decoder, cancel)
	}
	go func() {
		select {
		case <-terminate:
			cancel(errTerminated)
		case <-ctx.Done():
		}
	}()
	mode, err := recovered(func() (postgres.ShutdownMode, error) {
		if k.spec.Shared != nil {
			return k.runShared(ctx, cancel)
		}
		return k.runServer(ctx, func(int) error { return nil })
	})
	if errors.Is(context.Cause(ctx), errOrphaned) {
		for _, path := range k.spec.RemoveWhenOrphaned {
			_ = os.RemoveAll(path) // there is no process to report an error to
		}
	}
	if err != nil {
		k.send(event{Kind: eventFailed, Error: err.Error(), LostElection: errors.Is(err, errLostElection)})
		return 1
	}
	k.send(event{Kind: eventStopped, Mode: mode})
	return 0
}

// send writes an event. An error means that the receiver has ended, which receive detects.
func (k *keeper) send(e event) { _ = k.events.Encode(e) } //nolint:errchkjson // see above

// receive waits for the stop command or for the end of the process that could send it.
func (k *keeper) receive(decoder *json.Decoder, cancel context.CancelCauseFunc) {
	for {
		var next command
		if err := decoder.Decode(&next); err != nil {
			cancel(errOrphaned)
			return
		}
		if next.Stop != nil {
			k.mu.Lock()
			k.stopPlan = *next.Stop
			k.mu.Unlock()
			cancel(errStopped)
		}
	}
}

// recovered calls run and turns a panic into an error, because a keeper's standard error is discarded.
func recovered(run func() (postgres.ShutdownMode, error)) (mode postgres.ShutdownMode, err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("the keeper panicked: %v\n%s", reason, debug.Stack())
		}
	}()
	return run()
}

// runShared runs a shared server as long as there are leases on it.
func (k *keeper) runShared(ctx context.Context, cancel context.CancelCauseFunc) (postgres.ShutdownMode, error) {
	registration, err := k.spec.Shared.register(ctx)
	if err != nil {
		return "", err
	}
	defer registration.remove()
	idle := make(chan struct{})
	defer func() { cancel(nil); <-idle }() // the goroutine uses the registration
	go func() {
		defer close(idle)
		if registration.awaitIdle(ctx) {
			cancel(errIdle)
		}
	}()
	return k.runServer(ctx, func(pid int) error { return registration.publish(State{Spec: k.spec, PID: pid}) })
}

// runServer creates the server, calls publish when it is ready, waits until ctx ends or the server does, and removes
// everything. Meanwhile it removes what other servers have left.
func (k *keeper) runServer(ctx context.Context, publish func(pid int) error) (mode postgres.ShutdownMode, err error) {
	dir, err := createServerDir(k.spec)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, dir.remove()) }()
	releaseData, err := k.prepareDataDir(ctx)
	if err != nil {
		return "", err
	}
	defer releaseData()
	log, err := postgres.OpenLog(LogFile(k.spec.Dir))
	if err != nil {
		return "", err
	}
	defer log.Close()
	server, err := postgres.Start(k.serverConfig(), log)
	if err != nil {
		return "", err
	}
	// A process in a persistent data directory may be another server's until this server is ready.
	owned := !k.spec.Persistent
	defer func() {
		if owned {
			postgres.KillLeftovers(k.spec.DataDir)
		}
	}()
	err = k.awaitReady(ctx, server)
	if err == nil {
		err = publish(server.PID())
	}
	if err != nil {
		server.Stop(postgres.StopPlan{Immediate: startAbortTimeout})
		return "", err
	}
	owned = true
	k.send(event{Kind: eventReady, PID: server.PID()})
	swept := make(chan struct{})
	go func() {
		defer close(swept)
		k.sweep()
	}()
	defer func() { <-swept }()
	select {
	case <-server.Done():
		return "", fmt.Errorf("the server ended unexpectedly: %s%s", server.ExitStatus(), log.Tail())
	case <-ctx.Done():
		k.mu.Lock()
		plan := k.stopPlan
		k.mu.Unlock()
		return server.Stop(plan), nil
	}
}

// sweep removes what servers have left whose keepers were killed.
func (k *keeper) sweep() {
	for _, dir := range k.spec.SweepDirs {
		sweepLocation(dir)
		sweepRegistry(registryDir(dir))
	}
}

// prepareDataDir creates the data directory, or claims a persistent one until release is called.
func (k *keeper) prepareDataDir(ctx context.Context) (release func(), err error) {
	initializer := postgres.Initializer{Installation: k.spec.Installation, User: k.spec.User, CacheDirs: k.spec.CacheDirs}
	if k.spec.Persistent {
		claim, err := initializer.ClaimPersistent(ctx, k.spec.DataDir)
		if err != nil {
			return nil, err
		}
		return func() { filelock.Release(claim) }, nil
	}
	if err := os.Mkdir(k.spec.DataDir, 0o700); err != nil {
		return nil, err
	}
	return func() {}, initializer.CreateTemporary(ctx, k.spec.DataDir)
}

func (k *keeper) serverConfig() postgres.Config {
	return postgres.Config{Installation: k.spec.Installation, User: k.spec.User, DataDir: k.spec.DataDir, Args: k.spec.serverArgs()}
}

// awaitReady waits until the server accepts connections. If it listens on TCP, awaitReady also sets the superuser's password.
func (k *keeper) awaitReady(ctx context.Context, server *postgres.Server) error {
	if err := server.AwaitReady(ctx); err != nil || !k.spec.TCP {
		return err
	}
	if err := k.setPassword(ctx); err != nil {
		return fmt.Errorf("set the password: %w", err)
	}
	return nil
}

// setPassword sets the superuser's password, over the socket.
func (k *keeper) setPassword(ctx context.Context) error {
	conn, err := pgconn.Connect(ctx, k.spec.socketURL())
	if err != nil {
		return err //nolint:wrapcheck // awaitReady wraps it
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	}()
	// A session can override read-only mode that comes from a setting. A standby, however, has the passwords of its primary.
	if err := conn.Exec(ctx, "SET default_transaction_read_only = off").Close(); err != nil {
		return err //nolint:wrapcheck // awaitReady wraps it
	}
	// The password consists of letters and digits, so it needs no quoting.
	sql := fmt.Sprintf("ALTER ROLE %s PASSWORD '%s'", pgx.Identifier{postgres.Superuser}.Sanitize(), string(k.spec.Password))
	if err := conn.Exec(ctx, sql).Close(); err != nil && sqlstate.Code(err) != sqlstate.ReadOnlySQLTransaction {
		return err //nolint:wrapcheck // awaitReady wraps it
	}
	return nil
}

package embedded

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

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
)

// init is where an executable that was started as a keeper takes another way: it never reaches main, TestMain or a flag.
func init() { //nolint:gochecknoinits // nothing else runs before main in every program that imports this package
	if os.Getenv(keeperVariable) != keeperProtocol {
		return
	}
	orders, events, ok := keeperPipes()
	if !ok {
		// Somebody set the variable by hand. Whoever asks for a server will be told.
		return
	}
	_ = os.Unsetenv(keeperVariable)
	settleKeeper()
	os.Exit(keep(orders, events, terminations()))
}

// abortTime is how long a server that never got ready may take to end by itself.
const abortTime = 2 * time.Second

var (
	errOrphaned   = errors.New("the process that asked for the server has ended")
	errTold       = errors.New("told to stop")
	errTerminated = errors.New("the keeper was told to end by a signal")
)

// keeper owns one server from its first directory to its last.
type keeper struct {
	events *json.Encoder
	spec   spec

	mu   sync.Mutex
	plan stopPlan
}

// keep runs a server for whoever is at the other end of orders and events, until told to stop, until orders ends, or
// until terminate. It returns the exit status of the process.
func keep(orders io.Reader, events io.Writer, terminate <-chan os.Signal) int {
	k := &keeper{events: json.NewEncoder(events)}
	k.report(event{Kind: eventHello})
	decoder := json.NewDecoder(orders)
	var first order
	if err := decoder.Decode(&first); err != nil || first.Spec == nil {
		k.report(event{Kind: eventFailed, Error: fmt.Sprintf("the keeper got no order: %v", err)})
		return 1
	}
	k.spec, k.plan = *first.Spec, first.Spec.orphanPlan()

	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	if k.spec.Meeting == nil {
		go k.listen(decoder, cancel)
	}
	go func() {
		select {
		case <-terminate:
			cancel(errTerminated)
		case <-ctx.Done():
		}
	}()
	how, err := k.guard(func() (shutdown, error) {
		if k.spec.Meeting != nil {
			return k.share(ctx, cancel)
		}
		return k.serve(ctx, func(int) error { return nil })
	})
	if errors.Is(context.Cause(ctx), errOrphaned) {
		for _, path := range k.spec.Orphaned {
			_ = os.RemoveAll(path) // nobody is left to tell
		}
	}
	if err != nil {
		k.report(event{Kind: eventFailed, Error: err.Error(), Taken: errors.Is(err, errTaken)})
		return 1
	}
	k.report(event{Kind: eventStopped, How: how})
	return 0
}

// report tells the other end; when there is none any more, nobody misses it.
func (k *keeper) report(e event) { _ = k.events.Encode(e) } //nolint:errchkjson // see above

// listen waits for the order to stop, or for the end of the one who could give it.
func (k *keeper) listen(decoder *json.Decoder, cancel context.CancelCauseFunc) {
	for {
		var next order
		if err := decoder.Decode(&next); err != nil {
			cancel(errOrphaned)
			return
		}
		if next.Stop != nil {
			k.mu.Lock()
			k.plan = *next.Stop
			k.mu.Unlock()
			cancel(errTold)
		}
	}
}

// guard turns a panic into a report: a keeper has no terminal.
func (k *keeper) guard(run func() (shutdown, error)) (how shutdown, err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("the keeper panicked: %v\n%s", reason, debug.Stack())
		}
	}()
	return run()
}

// share makes a server for whoever comes to the meeting, for as long as somebody does.
func (k *keeper) share(ctx context.Context, cancel context.CancelCauseFunc) (shutdown, error) {
	host, err := k.spec.Meeting.host(ctx)
	if err != nil {
		return "", err
	}
	defer host.leave()
	watching := make(chan struct{})
	defer func() { cancel(nil); <-watching }()
	go func() {
		defer close(watching)
		if host.watch(ctx) {
			cancel(errUnused)
		}
	}()
	return k.serve(ctx, func(pid int) error { return host.publish(state{Spec: k.spec, PID: pid}) })
}

// serve makes the server, announces it, waits, and takes everything away again.
func (k *keeper) serve(ctx context.Context, announce func(pid int) error) (how shutdown, err error) {
	held, err := makeDir(k.spec)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, held.remove()) }()
	if k.spec.Persistent {
		claim, err := claimCluster(ctx, k.spec)
		if err != nil {
			return "", err
		}
		defer giveUp(claim)
	} else {
		if err := os.Mkdir(k.spec.Data, 0o700); err != nil {
			return "", err
		}
		if err := k.cluster().create(ctx, k.spec.Data); err != nil {
			return "", err
		}
	}
	log, err := openLog(logFile(k.spec.Dir))
	if err != nil {
		return "", err
	}
	defer log.close()
	server, err := startPostgres(k.spec, log)
	if err != nil {
		return "", err
	}
	// Until the server is ready, another one might be what runs in a persistent directory.
	owned := !k.spec.Persistent
	defer func() {
		if owned {
			cleanUp(k.spec.Data)
		}
	}()
	err = k.ready(ctx, server)
	if err == nil {
		err = announce(server.pid())
	}
	if err != nil {
		server.stop(stopPlan{Immediate: abortTime})
		return "", err
	}
	owned = true
	k.report(event{Kind: eventReady, PID: server.pid()})
	swept := make(chan struct{})
	go func() {
		defer close(swept)
		for _, dir := range k.spec.Sweep {
			sweep(dir)
			sweepMeetings(meetingDir(dir))
		}
	}()
	defer func() { <-swept }()
	select {
	case <-server.done:
		return "", fmt.Errorf("the server ended by itself: %s%s", server.exit(), log.last())
	case <-ctx.Done():
		k.mu.Lock()
		plan := k.plan
		k.mu.Unlock()
		return server.stop(plan), nil
	}
}

func (k *keeper) cluster() cluster {
	return cluster{install: k.spec.Install, user: k.spec.User, caches: k.spec.Caches}
}

// ready waits for the server and, when it listens on TCP, sets the superuser's password.
func (k *keeper) ready(ctx context.Context, server *postgres) error {
	if err := server.awaitReady(ctx); err != nil {
		return err
	}
	if !k.spec.TCP {
		return nil
	}
	conn, err := pgconn.Connect(ctx, k.spec.adminURL())
	if err != nil {
		return fmt.Errorf("set the password: %w", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	}()
	// A persistent server may be read-only by its configuration, which a session overrules, or a standby, whose passwords are
	// those of its primary.
	if err := conn.Exec(ctx, "SET default_transaction_read_only = off").Close(); err != nil {
		return fmt.Errorf("set the password: %w", err)
	}
	// The password is made of letters and digits.
	sql := fmt.Sprintf("ALTER ROLE %s PASSWORD '%s'", pgx.Identifier{superuser}.Sanitize(), k.spec.Password)
	if err := conn.Exec(ctx, sql).Close(); err != nil && sqlstate.Code(err) != sqlstate.ReadOnlySQLTransaction {
		return fmt.Errorf("set the password: %w", err)
	}
	return nil
}

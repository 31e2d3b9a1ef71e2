// Package testpgbouncer runs PgBouncer for tests, with transaction pooling.
package testpgbouncer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ErrNotInstalled is returned by [Start] on a machine without PgBouncer.
var ErrNotInstalled = errors.New("PgBouncer is not installed: apt-get install pgbouncer")

// PgBouncer is a running process.
type PgBouncer struct {
	dir, user string
	process   *exec.Cmd
	output    bytes.Buffer
}

// Start runs PgBouncer in front of the server at address, a URL or connection string, with serverConns connections for each database.
// mode is its pool_mode, transaction or session. The server itself need not accept connections. Start returns when PgBouncer
// accepts them.
func Start(ctx context.Context, address, mode string, serverConns int) (_ *PgBouncer, err error) {
	binary, err := exec.LookPath("pgbouncer")
	if err != nil {
		binary, err = exec.LookPath("/usr/sbin/pgbouncer")
	}
	if err != nil {
		return nil, ErrNotInstalled
	}
	to, err := pgx.ParseConfig(address)
	if err != nil {
		return nil, fmt.Errorf("the server's address: %w", err)
	}
	dir, err := os.MkdirTemp("", "rdsfx-pgbouncer-")
	if err != nil {
		return nil, fmt.Errorf("directory: %w", err)
	}
	b := &PgBouncer{dir: dir, user: to.User}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.Stop())
		}
	}()
	config := fmt.Sprintf(`[databases]
* = host=%s port=%d user=%s password=%s

[pgbouncer]
pool_mode = %s
default_pool_size = %d
auth_type = any
listen_addr =
unix_socket_dir = %s
listen_port = 6432
server_login_retry = 1
query_wait_timeout = 20
`, to.Host, to.Port, to.User, to.Password, mode, serverConns, dir)
	file := filepath.Join(dir, "pgbouncer.ini")
	args := []string{file}
	if os.Geteuid() == 0 { // PgBouncer refuses to run as root and changes its user
		args = append(args, "-u", "nobody")
	}
	process := exec.CommandContext(context.WithoutCancel(ctx), binary, args...) //nolint:gosec // a test's binary
	process.Stdout, process.Stderr = &b.output, &b.output
	err = errors.Join(os.Chmod(dir, 0o777), os.WriteFile(file, []byte(config), 0o644), process.Start()) //nolint:gosec // for that user
	if err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	b.process = process
	err = b.await(ctx, to.Database)
	return b, err
}

// await waits until PgBouncer accepts connections. An error of the server behind it is enough.
func (b *PgBouncer) await(ctx context.Context, database string) error {
	for {
		conn, err := pgx.Connect(ctx, b.URL(database))
		if err == nil {
			return conn.Close(ctx) //nolint:wrapcheck // a test's connection
		}
		if _, replied := errors.AsType[*pgconn.PgError](err); replied {
			return nil
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("PgBouncer does not accept connections: %w", errors.Join(context.Cause(ctx), err))
		}
	}
}

// URL returns the URL of a database behind PgBouncer.
func (b *PgBouncer) URL(database string) string {
	return "postgres:///" + database + "?port=6432&user=" + url.QueryEscape(b.user) + "&host=" + b.dir
}

// Output returns what PgBouncer has logged. Call it after Stop.
func (b *PgBouncer) Output() string { return b.output.String() }

// Stop ends the process and removes its directory.
func (b *PgBouncer) Stop() error {
	var err error
	if b.process != nil {
		err = b.process.Process.Signal(os.Interrupt)
		_ = b.process.Wait() // the error only reports the signal
	}
	return errors.Join(err, os.RemoveAll(b.dir))
}

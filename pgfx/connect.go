package pgfx

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/internal/pgcodec"
)

// Session is [DB.Connect] for what lasts as long as a session of the server: advisory locks, LISTEN, prepared statements,
// settings. Behind a transaction pooler there is none, and the error is [ErrNoSession].
func (db *DB) Session(ctx context.Context, purpose string) (*pgx.Conn, error) {
	if db.config.Pooler == PoolerTransaction {
		return nil, ErrNoSession
	}
	return db.Connect(ctx, purpose)
}

// Connect opens a connection outside the pool, for a probe for example; for what needs a session there is [DB.Session]. It
// is the one way to do so, with the same credentials, TLS, hooks and timeouts as the pool's connections, and it passes a
// shut gate. purpose is a short word that pg_stat_activity shows behind the application's name. ctx bounds connecting, not
// the connection's life; several addresses share its time. The caller closes the connection. Errors are [*ConnectError].
//
// The connection counts on the server and not in the pool; Close of the DB doesn't wait for it.
func (db *DB) Connect(ctx context.Context, purpose string) (*pgx.Conn, error) {
	if db.closed.Load() {
		return nil, ErrClosed
	}
	cc := db.connConfig.Copy()
	cc.Tracer = nil // what is not in the pool is not in the pool's statistics
	cc.RuntimeParams["application_name"] = applicationName(cc.RuntimeParams["application_name"], purpose)
	if err := db.prepareConfig(ctx, cc); err != nil {
		return nil, newConnectError(db.target, err)
	}
	shareTime(ctx, cc)
	conn, err := pgx.ConnectConfig(ctx, cc)
	if err != nil {
		return nil, newConnectError(db.target, err)
	}
	if _, err := db.prepareConn(ctx, conn); err != nil {
		_ = conn.Close(context.WithoutCancel(ctx)) // the error that matters is the one of the preparation
		return nil, newConnectError(db.target, err)
	}
	return conn, nil
}

// shareTime divides the time until ctx's deadline among several addresses, so that one that swallows packets leaves time for
// the next.
func shareTime(ctx context.Context, cc *pgx.ConnConfig) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return
	}
	addresses := map[string]bool{hostPort(cc.Host, cc.Port): true}
	for _, fallback := range cc.Fallbacks {
		addresses[hostPort(fallback.Host, fallback.Port)] = true
	}
	share := time.Until(deadline) / time.Duration(len(addresses))
	if len(addresses) > 1 && share > 0 && (cc.ConnectTimeout == 0 || share < cc.ConnectTimeout) {
		cc.ConnectTimeout = share
	}
}

// maxName is the longest application_name: NAMEDATALEN - 1. The server truncates what is longer.
const maxName = 63

func applicationName(name, purpose string) string {
	if purpose == "" {
		return name
	}
	purpose = "/" + purpose
	if room := maxName - len(purpose); len(name) > room {
		name = strings.ToValidUTF8(name[:max(0, room)], "")
	}
	return name + purpose
}

// beforeConnect is pgxpool's hook: no dial while the gate is shut, then what every connection gets.
func (db *DB) beforeConnect(ctx context.Context, cc *pgx.ConnConfig) error {
	if err := db.gate.Err(); err != nil {
		return err
	}
	if err := db.pacer.begin(ctx); err != nil {
		return err
	}
	err := db.prepareConfig(ctx, cc)
	if err == nil {
		err = db.gate.Err() // it may have been shut while we waited
	}
	if err != nil {
		db.pacer.end(err)
	}
	return err // without one, TraceConnectEnd ends the turn
}

// beforeClose is pgxpool's hook for a connection that leaves the pool.
func (db *DB) beforeClose(conn *pgx.Conn) {
	db.overflow.closing(stateOf(conn))
	db.leases.remove(conn)
}

// prepareConfig completes the configuration of one new connection.
func (db *DB) prepareConfig(ctx context.Context, cc *pgx.ConnConfig) error {
	if file := db.config.PasswordFile; file != "" {
		password, err := readPassword(file)
		if err != nil {
			return fmt.Errorf("pgfx: Config.PasswordFile %q: %s", file, reason(err))
		}
		cc.Password = password
	}
	tracer := cc.Tracer
	for _, hook := range db.options.beforeConnect {
		if err := hook(ctx, cc); err != nil {
			return fmt.Errorf("pgfx: before connect: %w", err)
		}
	}
	cc.Tracer = tracer // the pool's bookkeeping depends on it; tracers come by WithTracer
	return nil
}

// afterConnect is pgxpool's hook for a connection that is about to enter the pool.
func (db *DB) afterConnect(ctx context.Context, conn *pgx.Conn) error {
	types, err := db.prepareConn(ctx, conn)
	if err != nil {
		return err
	}
	generation := db.generation.Load()
	writer := !reportedReadOnly(conn)
	if db.config.Pooler == PoolerTransaction && db.minds() { // it may tell what it once heard from another server
		// The question waits until the pooler has a session to spare: it is a part of connecting, and has the time for that.
		readOnly, err := askReadOnly(conn, max(db.validateTimeout, orElse(db.config.Timeouts.Connect, never)))
		if err != nil {
			return fmt.Errorf("pgfx: ask for the role of the server: %w", err)
		}
		writer = !readOnly
	}
	if !writer && db.config.Role == RoleWriter {
		return &RoleError{Target: db.target}
	}
	state := db.leases.add(conn, generation)
	state.writer, state.types = writer, types
	db.overflow.opened()
	return nil
}

// prepareConn does what every new connection needs, and returns the types that it knows then.
func (db *DB) prepareConn(ctx context.Context, conn *pgx.Conn) (*typeSet, error) {
	if !db.config.DisableFastCodecs {
		pgcodec.Register(conn.TypeMap())
	}
	types, err := db.registerTypes(ctx, conn)
	if err != nil {
		return nil, err
	}
	for _, hook := range db.options.afterConnect {
		if err := hook(ctx, conn); err != nil {
			return nil, fmt.Errorf("pgfx: after connect: %w", err)
		}
	}
	return types, nil
}

// targetOf describes where a configuration leads, without its password.
func targetOf(cc *pgx.ConnConfig) string {
	return cc.User + "@" + targetHosts(cc) + "/" + cc.Database
}

func targetHosts(cc *pgx.ConnConfig) string {
	hosts := []string{hostPort(cc.Host, cc.Port)}
	for _, fallback := range cc.Fallbacks {
		if next := hostPort(fallback.Host, fallback.Port); next != hosts[len(hosts)-1] { // TLS fallbacks repeat the host
			hosts = append(hosts, next)
		}
	}
	return strings.Join(hosts, ",")
}

func hostPort(host string, port uint16) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

// Target describes where db leads, as user@host:port/database. It holds no password and may be shown.
func (db *DB) Target() string { return db.target }

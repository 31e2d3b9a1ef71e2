package pgfx

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rdsfx-go/rdsfx/internal/pgcodec"
	"github.com/rdsfx-go/rdsfx/internal/poolstats"
)

// Session is like [DB.Connect], for work that needs a dedicated session: advisory locks, LISTEN, prepared statements or
// settings. Behind a transaction pooler it returns [ErrNoSession].
func (db *DB) Session(ctx context.Context, purpose string) (*pgx.Conn, error) {
	if db.config.Pooler == PoolerTransaction {
		return nil, ErrNoSession
	}
	return db.Connect(ctx, purpose)
}

// Connect opens a connection outside the pool, for example for a probe. It uses the credentials, TLS, options and timeouts of
// the pool's connections, and works while the gate is closed. Use [DB.Session] for work that needs a session.
//
// purpose is a short word that is added to application_name, as in "app/probe". ctx bounds connecting, not the life of the
// connection; several addresses share its time. The caller must close the connection. It takes a connection slot on the
// server, but is not in the pool's statistics, and [DB.Close] does not wait for it.
//
// The error is a [*ConnectError], or [ErrClosed] after Close.
func (db *DB) Connect(ctx context.Context, purpose string) (*pgx.Conn, error) {
	return db.connect(ctx, purpose, db.currentRoute())
}

func (db *DB) connect(ctx context.Context, purpose string, route RouteFunc) (*pgx.Conn, error) {
	if db.closed.Load() {
		return nil, ErrClosed
	}
	cc := db.connConfig.Copy()
	cc.Tracer = nil // the pool's statistics do not include other connections
	cc.RuntimeParams["application_name"] = applicationName(cc.RuntimeParams["application_name"], purpose)
	if db.inSetup(ctx) {
		for _, setting := range requestTimeouts() {
			delete(cc.RuntimeParams, setting)
		}
	}
	if err := db.prepareRouted(ctx, cc, route); err != nil {
		return nil, db.connectError(err)
	}
	shareTime(ctx, cc)
	conn, err := pgx.ConnectConfig(withAttempt(ctx), cc)
	failure := db.noteConnect(err)
	db.logins.note(loginOf(cc), failure)
	if failure != nil {
		return nil, failure
	}
	if _, _, err := db.prepareConn(ctx, conn); err != nil {
		_ = conn.Close(context.WithoutCancel(ctx)) // the error of the preparation matters more
		return nil, db.connectError(err)
	}
	return conn, nil
}

// shareTime divides the time until the deadline of ctx among several addresses, so that an address that drops packets leaves
// time for the next.
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

// maxIdentifier is the length to which the server truncates names, application_name included: NAMEDATALEN - 1.
const maxIdentifier = 63

func applicationName(name, purpose string) string {
	if purpose == "" {
		return name
	}
	purpose = "/" + purpose
	if limit := maxIdentifier - len(purpose); len(name) > limit {
		name = strings.ToValidUTF8(name[:max(0, limit)], "")
	}
	return name + purpose
}

// beforeConnect is pgxpool's BeforeConnect hook. It fails at once while the gate is closed, so the pool does not dial.
func (db *DB) beforeConnect(ctx context.Context, cc *pgx.ConnConfig) error {
	if err := db.gate.pass(ctx, db, db.acquireTimeout); err != nil {
		return err
	}
	if err := db.pacer.begin(ctx); err != nil {
		return err
	}
	if err := db.prepareConfig(ctx, cc); err != nil {
		db.pacer.end(err)
		return err
	}
	if err := db.gate.check(ctx, db); err != nil { // it may have been closed meanwhile
		db.pacer.release()
		return err
	}
	if err := db.logins.check(loginOf(cc)); err != nil {
		db.pacer.refuse(err)
		db.pacer.release()
		return err
	}
	cc.Tracer = db.withOptions(connectTracer{db.ownTracer(), new(atomic.Bool)})
	return nil
}

// beforeClose is pgxpool's BeforeClose hook, for a connection that leaves the pool.
func (db *DB) beforeClose(conn *pgx.Conn) {
	state := stateOf(conn)
	if state == nil {
		return
	}
	db.stats.Remove(state.stats)
	if isGivenUp(conn) {
		db.orphans.add(state.backend, poolstats.RawConn(conn.PgConn().Conn()))
	}
}

// prepareConfig sets the address and the password of one new connection and applies the options.
func (db *DB) prepareConfig(ctx context.Context, cc *pgx.ConnConfig) error {
	return db.prepareRouted(ctx, cc, db.currentRoute())
}

func (db *DB) prepareRouted(ctx context.Context, cc *pgx.ConnConfig, route RouteFunc) error {
	if file := db.config.PasswordFile; file != "" {
		password, err := readPassword(file)
		if err != nil {
			return fmt.Errorf("pgfx: Config.PasswordFile %q: %s", file, fileProblem(err))
		}
		cc.Password = password
	}
	if err := db.trustCAFile(cc); err != nil {
		return err
	}
	tracer, mode := cc.Tracer, cc.DefaultQueryExecMode
	for _, authenticator := range db.options.authenticators {
		if err := authenticator.BeforeConnect(ctx, cc); err != nil {
			return err
		}
	}
	ips := applyRoute(cc, route)
	for _, hook := range db.options.beforeConnect {
		if err := hook(ctx, cc); err != nil {
			return fmt.Errorf("pgfx: before connect: %w", err)
		}
	}
	if cc.DefaultQueryExecMode != mode { // repositories and transaction poolers depend on it
		return fmt.Errorf("pgfx: before connect: a function of WithBeforeConnect sets DefaultQueryExecMode to %q: set Config.ExecMode instead",
			cc.DefaultQueryExecMode)
	}
	cc.Tracer = tracer // the pool depends on its own; WithTracer adds others
	resolveTo(cc, ips)
	db.addCanceler(cc)
	return nil
}

// afterConnect is pgxpool's AfterConnect hook, for a connection that is about to enter the pool. Only now the attempt to connect has
// succeeded: some servers accept connections and then kill them.
func (db *DB) afterConnect(ctx context.Context, conn *pgx.Conn) error {
	err := db.enterPool(ctx, conn)
	db.pacer.end(err)
	_ = db.noteConnect(err) // only stored
	return err
}

// enterPool prepares a connection for the pool.
func (db *DB) enterPool(ctx context.Context, conn *pgx.Conn) error {
	types, backend, err := db.prepareConn(ctx, conn)
	if err != nil {
		return err
	}
	generation := db.generation.Load()
	writer := !reportedReadOnly(conn)
	if db.config.Pooler == PoolerTransaction && db.requiresWriter() { // the pooler may report the state of another session
		// The query waits until the pooler has a free session. It is part of connecting, so it has that much time.
		readOnly, err := queryReadOnly(context.WithoutCancel(ctx), conn, max(db.validateTimeout, orElse(db.config.Timeouts.Connect, never)))
		if err != nil {
			return fmt.Errorf("pgfx: query the server role: %w", err)
		}
		writer = !readOnly
	}
	if !writer && db.config.Role == RoleWriter {
		return &RoleError{Target: db.target}
	}
	state := db.addConn(conn, backend, generation)
	state.wasWriter, state.types = writer, types
	return nil
}

// prepareConn registers codecs and types on a new connection, applies the options, and returns the registered types and the
// backend.
func (db *DB) prepareConn(ctx context.Context, conn *pgx.Conn) (*typeSet, Backend, error) {
	pgcodec.RegisterLists(conn.TypeMap())
	if db.config.DisableFastCodecs {
		pgcodec.RegisterExact(conn.TypeMap())
	} else {
		pgcodec.Register(conn.TypeMap())
	}
	backend, err := db.introduce(ctx, conn)
	if err != nil {
		return nil, backend, err
	}
	types, err := db.registerTypes(ctx, conn)
	if err != nil {
		return nil, backend, err
	}
	for _, hook := range db.options.afterConnect {
		if err := hook(ctx, conn); err != nil {
			return nil, backend, fmt.Errorf("pgfx: after connect: %w", err)
		}
	}
	return types, backend, nil
}

// targetOf returns the target of a configuration as user@host:port/database, without the password.
func targetOf(cc *pgconn.Config) string {
	return cc.User + "@" + targetHosts(cc) + "/" + cc.Database
}

func targetHosts(cc *pgconn.Config) string {
	hosts := []string{hostPort(cc.Host, cc.Port)}
	for _, fallback := range cc.Fallbacks {
		if next := hostPort(fallback.Host, fallback.Port); next != hosts[len(hosts)-1] { // a TLS fallback repeats the host
			hosts = append(hosts, next)
		}
	}
	return strings.Join(hosts, ",")
}

func hostPort(host string, port uint16) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

// Target returns the address of the database as user@host:port/database, without the password. Several hosts are separated by
// commas.
func (db *DB) Target() string { return db.target }

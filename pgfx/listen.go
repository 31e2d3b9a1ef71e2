package pgfx

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"
)

const (
	// listenBuffer is the number of notifications that a Listener keeps for Next.
	listenBuffer = 1024
	// listenCheck is the longest time between two checks of a Listener's idle session.
	listenCheck = 10 * time.Second
	// gatePoll is how often a Listener checks whether the gate has been opened.
	gatePoll = 100 * time.Millisecond
	// listenClose bounds the orderly end of a Listener's session.
	listenClose = time.Second
)

var (
	// ErrListenerClosed is returned by [Listener.Next] after [Listener.Close] or [DB.Close].
	ErrListenerClosed = errors.New("pgfx: listener is closed")

	errListenBegins   = errors.New("listening has just begun: earlier notifications were not received")
	errListenOverflow = errors.New("notifications came faster than Next was called, and the buffer was full")
	errSessionMoved   = fmt.Errorf("%w: a pooler has given the listener's session to another client, so Config.Pooler should be %q",
		ErrNoSession, PoolerTransaction)
)

// Notification is a notification of a channel, or the report that notifications may have been missed.
type Notification struct {
	// Missed is nil for a notification. Otherwise the other fields are empty, and notifications may have been missed for this
	// reason: read from the tables whatever they would have reported.
	Missed error
	// Channel is the channel.
	Channel string
	// Payload is the text that was sent, at most 7999 bytes.
	Payload string
	// PID is the process ID of the session that sent it, as in pg_stat_activity.
	PID uint32
}

// Listener receives notifications (PostgreSQL manual, "NOTIFY") on a session outside the pool, which it replaces when it is lost.
// It is safe for concurrent use; each notification goes to one call of Next.
type Listener struct {
	db       *DB
	channels []string
	logger   *zap.Logger
	cancel   context.CancelFunc
	done     chan struct{} // closed when the session is closed
	ready    chan struct{} // holds an element if queue may not be empty

	mu      sync.Mutex
	queue   []Notification // at most listenBuffer, and a report that more have come
	failure error          // why it isn't listening; nil while it is
}

// Listen returns a Listener for these channels. It returns at once. The Listener connects when the gate is open: after
// [DB.Start], and when an outage is over. The first result of [Listener.Next] reports that listening has begun. Close the
// Listener, or let [DB.Close] do it.
//
// A channel is spelled as in pg_notify($1, $2), case-sensitive and at most 63 bytes. NOTIFY folds an unquoted name to lower
// case. One Listener can serve many channels with one session.
//
// Behind a transaction pooler Listen returns [ErrNoSession].
func (db *DB) Listen(channels ...string) (*Listener, error) {
	if db.config.Pooler == PoolerTransaction {
		return nil, ErrNoSession
	}
	if len(channels) == 0 {
		return nil, errors.New("pgfx: listen: name at least one channel")
	}
	for _, channel := range channels {
		if channel == "" || len(channel) > maxIdentifier || strings.ContainsRune(channel, 0) {
			return nil, fmt.Errorf("pgfx: listen: channel %q: use a name of 1 to %d bytes", channel, maxIdentifier)
		}
	}
	ctx, cancel := context.WithCancel(db.lifetime)
	l := &Listener{
		db: db, channels: slices.Compact(slices.Sorted(slices.Values(channels))), logger: db.logger.With(zap.Int("channels", len(channels))),
		cancel: cancel, done: make(chan struct{}), ready: make(chan struct{}, 1),
		failure: errors.New("not connected yet"),
	}
	if !db.listeners.add(func() { l.run(ctx) }) {
		cancel()
		return nil, ErrClosed
	}
	return l, nil
}

// Next returns the next notification. It waits until there is one or ctx ends. Call it in a loop:
//
//	for {
//		n, err := listener.Next(ctx)
//		if err != nil {
//			return err
//		}
//		if n.Missed != nil { // at the beginning, after each reconnection, and after an overflow
//			...
//		}
//	}
//
// PostgreSQL keeps no notifications for a session that is not connected. So after each reconnection, a result reports that some
// may have been missed, at the position in the order at which that happened. The same holds if Next is called too rarely: 1024
// notifications are kept, later ones are dropped until there is room. Equal notifications of one transaction are delivered once.
//
// While the database is away, Next waits. An idle session is checked every 10 s, or every Config.Health.Interval if that is less,
// and a check takes at most Config.Health.Timeout. So Next learns of a lost session within the sum, even if the network does not
// report it.
//
// The error matches that of ctx and names why the Listener isn't connected, if it isn't. After Close it is [ErrListenerClosed].
// It matches [ErrNoSession] if a pooler turns out not to keep the session; the Listener has then ended.
func (l *Listener) Next(ctx context.Context) (Notification, error) {
	for {
		select {
		case <-l.done:
			return Notification{}, l.ended()
		default:
		}
		if n, ok := l.pop(); ok {
			return n, nil
		}
		select {
		case <-l.ready:
		case <-l.done:
		case <-ctx.Done():
			return Notification{}, l.waitError(ctx)
		}
	}
}

// Close ends the session and waits for it, a second at most. You may call it more than once.
func (l *Listener) Close() {
	l.cancel()
	<-l.done
}

func (l *Listener) ended() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if errors.Is(l.failure, ErrNoSession) {
		return l.failure
	}
	return ErrListenerClosed
}

func (l *Listener) waitError(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failure != nil {
		return fmt.Errorf("pgfx: listener not connected: %w; %w", context.Cause(ctx), l.failure)
	}
	return fmt.Errorf("pgfx: wait for a notification: %w", context.Cause(ctx))
}

func (l *Listener) pop() (Notification, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		return Notification{}, false
	}
	n := l.queue[0]
	l.queue = l.queue[1:]
	if len(l.queue) > 0 {
		l.wake() // another call
	}
	return n, true
}

// push adds a notification or a report. If the buffer is full, a report takes the place of everything that follows.
func (l *Listener) push(n Notification) {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := len(l.queue) - 1
	switch {
	case n.Missed == nil && len(l.queue) >= listenBuffer:
		if l.queue[last].Missed == nil {
			l.queue = append(l.queue, Notification{Missed: errListenOverflow})
		}
	case n.Missed != nil && last >= 0 && l.queue[last].Missed != nil:
		l.queue[last] = n // nothing came in between
	default:
		l.queue = append(l.queue, n)
	}
	l.wake()
}

func (l *Listener) wake() {
	select {
	case l.ready <- struct{}{}:
	default:
	}
}

// setFailure stores why the Listener isn't listening, and logs each reason once.
func (l *Listener) setFailure(err error) {
	l.mu.Lock()
	before := l.failure
	l.failure = err
	l.mu.Unlock()
	if err != nil && (before == nil || before.Error() != err.Error()) {
		l.logger.Warn("listener not connected; notifications may be missed", zap.Error(err))
	}
}

// run keeps a session until ctx ends.
func (l *Listener) run(ctx context.Context) {
	defer close(l.done)
	policy := l.db.startPolicy()
	policy.MaxAttempts = Off
	retries, missed := policy.Begin(), errListenBegins
	for ctx.Err() == nil {
		if err := l.db.gate.Err(); err != nil { // the monitor probes; another client need not
			l.mu.Lock()
			l.failure = err // logged by the start or the monitor
			l.mu.Unlock()
			retries = policy.Begin()
			sleep(ctx, gatePoll)
			continue
		}
		began := time.Now()
		listened, err := l.listen(ctx, missed)
		if ctx.Err() != nil {
			return
		}
		l.setFailure(err)
		if errors.Is(err, ErrNoSession) {
			return
		}
		if listened {
			missed = fmt.Errorf("the session was lost: %w", err)
		}
		if listened && time.Since(began) > policy.WithDefaults().MaxDelay {
			retries = policy.Begin() // it was not a server that accepts connections and ends them
		}
		if !retries.Next(ctx) {
			return
		}
	}
}

// listen opens a session and receives its notifications until it is lost. It reports first that notifications may have been
// missed before. listened is false if it never listened.
func (l *Listener) listen(ctx context.Context, missed error) (listened bool, err error) {
	conn, err := l.connect(ctx)
	if err != nil {
		return false, err
	}
	defer func() {
		if err != nil && ctx.Err() == nil {
			_ = conn.PgConn().Conn().Close() // nothing is to be said to a lost session
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), listenClose)
		defer cancel()
		_ = conn.Close(ctx) // the socket is closed in any case
	}()
	writer := !reportedReadOnly(conn)
	if !writer && l.db.config.Role == RoleWriter {
		return false, &RoleError{Target: l.db.target}
	}
	if err := l.subscribe(ctx, conn); err != nil {
		return false, fmt.Errorf("pgfx: listen: %w", err)
	}
	l.push(Notification{Missed: missed})
	l.setFailure(nil)
	l.logger.Info("listener connected")
	for {
		switch n, err := l.wait(ctx, conn); {
		case err == nil:
			l.push(Notification{Channel: n.Channel, Payload: n.Payload, PID: n.PID})
		case ctx.Err() != nil || conn.IsClosed():
			return true, err
		default: // nothing came
			if err := l.check(ctx, conn, writer); err != nil {
				return true, err
			}
		}
	}
}

func (l *Listener) connect(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, orElse(l.db.config.Timeouts.Connect, never)+l.db.config.Health.Timeout)
	defer cancel()
	return l.db.Session(ctx, "listen")
}

// subscribe sends one LISTEN for each channel in one round trip.
func (l *Listener) subscribe(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, l.db.config.Health.Timeout)
	defer cancel()
	var script strings.Builder
	for _, channel := range l.channels {
		script.WriteString("listen " + pgx.Identifier{channel}.Sanitize() + ";")
	}
	_, err := conn.PgConn().Exec(ctx, script.String()).ReadAll()
	return err //nolint:wrapcheck // wrapped by the caller
}

// wait returns the next notification. After an error the session is lost, or it is time to check it.
func (l *Listener) wait(ctx context.Context, conn *pgx.Conn) (*pgconn.Notification, error) {
	interval := listenCheck
	if own := l.db.config.Health.Interval; own != Off {
		interval = min(interval, own)
	}
	ctx, cancel := context.WithTimeout(ctx, interval)
	defer cancel()
	return conn.WaitForNotification(ctx) //nolint:wrapcheck // reported as the cause of a lost session
}

// checkListener returns whether the server is read-only, and how many of the channels the session listens to.
const checkListener = `select pg_catalog.current_setting('transaction_read_only') = 'on',
	(select pg_catalog.count(*) from pg_catalog.pg_listening_channels() as channel where channel = any($1))`

// check returns an error if the session is useless: the server doesn't reply, or the session doesn't listen to all channels. The
// same holds if the server has become read-only, because transactions that notify run on another server then.
func (l *Listener) check(ctx context.Context, conn *pgx.Conn, writer bool) error {
	ctx, cancel := context.WithTimeout(ctx, l.db.config.Health.Timeout)
	defer cancel()
	var readOnly bool
	var channels int
	// Behind a pooler that was not declared, a named statement may not exist.
	err := conn.QueryRow(ctx, checkListener, pgx.QueryExecModeExec, l.channels).Scan(&readOnly, &channels)
	switch {
	case err != nil:
		return fmt.Errorf("pgfx: check the session of the listener: %w", err)
	case channels < len(l.channels):
		return errSessionMoved
	case readOnly && l.db.leavesReadOnly(writer):
		return &RoleError{Target: l.db.target}
	}
	return nil
}

// listeners counts the goroutines of a DB's Listeners.
type listeners struct {
	mu     sync.Mutex
	closed bool
	group  sync.WaitGroup
}

// add runs a Listener, or returns false after close.
func (s *listeners) add(run func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.group.Go(run)
	return true
}

func (s *listeners) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
}

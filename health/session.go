package health

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
)

// session is the monitor's own connection. It speaks the wire protocol itself, for two reasons:
//
//   - A goroutine reads all the time, so the loss of the connection is noticed when it happens and not at the next probe.
//   - Closing it closes the socket at once. pgx would send a cancel request on a new connection and drain the old one, which
//     takes up to 15 s if the peer is gone.
//
// Only the channels are safe for concurrent use.
type session struct {
	conn     net.Conn
	frontend *pgproto3.Frontend
	opened   time.Time
	query    int  // index of the probe query that this server can execute
	pending  bool // a statement has no response yet

	responses chan response // sent by the reader; holds one
	lost      chan struct{} // closed by the reader when the connection is gone
	err       error         // why the connection is gone; set before lost is closed
}

// response is the result of one statement: its last row, or the server's error.
type response struct {
	row []string
	err error
}

// newSession takes conn, which must be idle, over from pgx.
func newSession(conn *pgx.Conn) (*session, error) {
	hijacked, err := conn.PgConn().Hijack()
	if err != nil {
		closeSocket(conn.PgConn().Conn()) // a connect function left the connection busy
		return nil, fmt.Errorf("health: take over the connection: %w", err)
	}
	s := &session{
		conn: hijacked.Conn, frontend: hijacked.Frontend, opened: time.Now(),
		responses: make(chan response, 1), lost: make(chan struct{}),
	}
	go s.read()
	return s, nil
}

// read receives the server's messages until the connection is gone.
func (s *session) read() {
	defer close(s.lost)
	var (
		next  response
		fatal error
	)
	for {
		message, err := s.frontend.Receive()
		if err != nil {
			s.err = err
			if fatal != nil {
				s.err = fatal
			}
			return
		}
		switch message := message.(type) {
		case *pgproto3.DataRow:
			next.row = textValues(message.Values)
		case *pgproto3.ErrorResponse:
			pgErr := pgconn.ErrorResponseToPgError(message)
			next.err = pgErr
			if pgErr.Severity == "FATAL" || pgErr.Severity == "PANIC" || pgErr.SeverityUnlocalized == "FATAL" {
				fatal = pgErr
			}
		case *pgproto3.ReadyForQuery:
			select {
			case s.responses <- next:
			default: // the peer answers without a statement, so it is no PostgreSQL server; it must not block the reader
			}
			next = response{}
		}
	}
}

// textValues copies the values of a row, which are valid only until the next message is received. A null becomes "".
func textValues(values [][]byte) []string {
	row := make([]string, len(values))
	for i, value := range values {
		row[i] = string(value)
	}
	return row
}

// probe executes the first of the probeQueries that this server can execute. It returns the server's description and the time
// of the round trip. If ctx ends first, the response may still arrive: the next probe waits for it and sends nothing.
func (s *session) probe(ctx context.Context) (Server, time.Duration, error) {
	for {
		began := time.Now()
		if !s.pending {
			if err := s.send(ctx, probeQueries[s.query]); err != nil {
				return Server{}, 0, err
			}
		}
		row, err := s.receive(ctx)
		switch {
		case err == nil:
			server, err := parseServer(row)
			return server, time.Since(began), err
		case canSimplify(err) && s.query+1 < len(probeQueries):
			s.query++
		default:
			return Server{}, 0, err
		}
	}
}

func (s *session) send(ctx context.Context, sql string) error {
	deadline, _ := ctx.Deadline()
	if err := s.conn.SetWriteDeadline(deadline); err != nil {
		return s.cause(err)
	}
	s.frontend.SendQuery(&pgproto3.Query{String: sql})
	if err := s.frontend.Flush(); err != nil {
		return s.cause(err)
	}
	s.pending = true
	return nil
}

// cause returns the reader's error if the connection is gone, else err, the error of a write.
func (s *session) cause(err error) error {
	select {
	case <-s.lost:
		return s.err
	default:
		return err
	}
}

func (s *session) receive(ctx context.Context) ([]string, error) {
	select { // a response that has arrived counts, even if ctx has ended
	case got := <-s.responses:
		s.pending = false
		return got.row, got.err
	default:
	}
	select {
	case got := <-s.responses:
		s.pending = false
		return got.row, got.err
	case <-s.lost:
		return nil, s.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// queryText executes a statement whose result is one text.
func (s *session) queryText(ctx context.Context, query string) (string, error) {
	if err := s.send(ctx, query); err != nil {
		return "", err
	}
	row, err := s.receive(ctx)
	if err != nil {
		return "", err
	}
	if len(row) != 1 {
		return "", fmt.Errorf("the server returned %d columns, expected 1", len(row))
	}
	return row[0], nil
}

// lateResponse returns the response that arrived after its probe had ended, if there is one.
func (s *session) lateResponse() (Server, bool) {
	select {
	case got := <-s.responses:
		s.pending = false
		if got.err != nil {
			return Server{}, false
		}
		server, err := parseServer(got.row)
		return server, err == nil
	default:
		return Server{}, false
	}
}

func (s *session) isLost() bool {
	select {
	case <-s.lost:
		return true
	default:
		return false
	}
}

// terminateTimeout bounds the sending of the Terminate message to a server that may not read it.
const terminateTimeout = 100 * time.Millisecond

// close closes the connection and waits for the reader. If the session is idle it sends Terminate first, so that the server
// does not log a broken connection.
func (s *session) close() {
	if !s.pending && !s.isLost() {
		_ = s.conn.SetWriteDeadline(time.Now().Add(terminateTimeout)) // the connection is abandoned in any case
		s.frontend.Send(&pgproto3.Terminate{})
		_ = s.frontend.Flush() // as above
	}
	closeSocket(s.conn)
	<-s.lost
}

// closeSocket closes the socket under conn. Closing a TLS connection would wait until the peer has received its close_notify.
func closeSocket(conn net.Conn) {
	for {
		inner, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		conn = inner.NetConn()
	}
	_ = conn.Close() // the connection is abandoned in any case
}

// isDead reports whether the session is lost or unresponsive for a reason that may affect the pool's connections too. The
// server's idle_session_timeout is no such reason.
func (s *session) isDead() bool {
	if !s.isLost() {
		return s.pending
	}
	return sqlstate.Code(s.err) != sqlstate.IdleSessionTimeout
}

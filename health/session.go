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

// session is the monitor's own connection. It speaks the wire protocol itself, for two reasons. A goroutine reads all the
// time, so that the loss of the connection is noticed when it happens and not at the next question. And giving it up is
// closing the socket: pgx would send a cancel request on a new connection and drain the old one, which takes up to 15
// seconds when nobody is there any more.
type session struct {
	conn     net.Conn
	frontend *pgproto3.Frontend
	opened   time.Time
	query    int  // which of the questions this server answers
	pending  bool // a question is unanswered

	responses chan response // written by the reader, at most one at a time
	lost      chan struct{} // closed by the reader when the connection is gone
	err       error         // why; set before lost is closed
}

// answer is what came back for one question: the last row, or the server's refusal.
type response struct {
	row []string
	err error
}

// newSession takes a connection over from pgx. It must be idle.
func newSession(conn *pgx.Conn) (*session, error) {
	hijacked, err := conn.PgConn().Hijack()
	if err != nil {
		closeSocket(conn.PgConn().Conn()) // a hook has left it in the middle of something; the error tells
		return nil, fmt.Errorf("health: take over the connection: %w", err)
	}
	s := &session{
		conn: hijacked.Conn, frontend: hijacked.Frontend, opened: time.Now(),
		responses: make(chan response, 1), lost: make(chan struct{}),
	}
	go s.read()
	return s, nil
}

// read takes in all that the server sends, until the connection is gone.
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
			refusal := pgconn.ErrorResponseToPgError(message)
			next.err = refusal
			if refusal.Severity == "FATAL" || refusal.Severity == "PANIC" || refusal.SeverityUnlocalized == "FATAL" {
				fatal = refusal
			}
		case *pgproto3.ReadyForQuery:
			select {
			case s.responses <- next:
			default: // nobody asked: what speaks there is no PostgreSQL, and must not hold the reader up
			}
			next = response{}
		}
	}
}

// texts copies the values of a row, which are the reader's only until it reads on. A null becomes "".
func textValues(values [][]byte) []string {
	row := make([]string, len(values))
	for i, value := range values {
		row[i] = string(value)
	}
	return row
}

// look asks what the server will answer about itself and returns that and the round trip's time. When ctx ends first, the
// answer may still come: the next look waits for it and asks nothing new.
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

func (s *session) send(ctx context.Context, question string) error {
	deadline, _ := ctx.Deadline()
	if err := s.conn.SetWriteDeadline(deadline); err != nil {
		return s.reason(err)
	}
	s.frontend.SendQuery(&pgproto3.Query{String: question})
	if err := s.frontend.Flush(); err != nil {
		return s.reason(err)
	}
	s.pending = true
	return nil
}

// reason returns why the connection is gone, when the reader knows, rather than what a write met.
func (s *session) reason(err error) error {
	select {
	case <-s.lost:
		return s.err
	default:
		return err
	}
}

func (s *session) receive(ctx context.Context) ([]string, error) {
	select { // an answer that is there counts, even when ctx has ended
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

// late returns the answer that came after its look had ended, if it has.
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

// isLost reports whether the connection is gone.
func (s *session) isLost() bool {
	select {
	case <-s.lost:
		return true
	default:
		return false
	}
}

// farewell bounds the goodbye to a server that may not listen.
const terminateTimeout = 100 * time.Millisecond

// close ends the session and waits for its reader, which takes no longer than the goodbye. An idle one says goodbye, so
// that the server logs no broken connection.
func (s *session) close() {
	if !s.pending && !s.isLost() {
		_ = s.conn.SetWriteDeadline(time.Now().Add(terminateTimeout)) // the connection is given up: nobody can act on an error
		s.frontend.Send(&pgproto3.Terminate{})
		_ = s.frontend.Flush() // as above
	}
	closeSocket(s.conn)
	<-s.lost
}

// cut closes a connection's socket. Closing a TLS connection would wait for the other side to take its goodbye.
func closeSocket(conn net.Conn) {
	for {
		inner, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		conn = inner.NetConn()
	}
	_ = conn.Close() // the connection is given up: nobody can act on an error
}

// isDead reports whether the session is gone, or keeps silent, for a reason that may hold for the pool's connections too.
// That the server ended it for having been idle is none.
func (s *session) isDead() bool {
	if !s.isLost() {
		return s.pending
	}
	return sqlstate.Code(s.err) != sqlstate.IdleSessionTimeout
}

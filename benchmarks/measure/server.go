package measure

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/benchmarks/contest"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

// Mode determines what answers the clients.
type Mode string

const (
	// Live uses the real server.
	Live Mode = "live"
	// Replay uses recorded responses, so only the client is measured.
	Replay Mode = "replay"
)

// Server is a PostgreSQL server with the table that the contenders work on.
type Server struct {
	server *embedded.Server
	url    string
	conn   *pgx.Conn // for setup and checks
}

// NewServer starts a server. autovacuum is off, so that it does not run during a measurement.
func NewServer(ctx context.Context) (*Server, error) {
	server, err := embedded.Start(ctx, embedded.Setting("autovacuum", "off"))
	if err != nil {
		return nil, err
	}
	s := &Server{server: server, url: server.URL()}
	if s.conn, err = pgx.Connect(ctx, s.url); err == nil {
		_, err = s.conn.Exec(ctx, contest.Schema)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// URL returns the server's URL.
func (s *Server) URL() string { return s.url }

// Version returns the server's version.
func (s *Server) Version() string { return s.conn.PgConn().ParameterStatus("server_version") }

// Close stops the server and removes its data.
func (s *Server) Close() {
	ctx := context.Background()
	if s.conn != nil {
		_ = s.conn.Close(ctx)
	}
	_ = s.server.Stop(ctx) // its data is removed in any case
}

// setup returns the function that restores the table for an operation.
func (s *Server) setup(op *contest.Operation) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		if op.Setup == nil {
			return nil
		}
		return op.Setup(ctx, s.conn)
	}
}

package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"go.uber.org/fx"
	"go.uber.org/zap"
)

// address is where the HTTP server listens: a host and a port.
type address string

// Server is the HTTP server of the service.
type Server struct {
	http     *http.Server
	listener net.Listener // from the start on
}

// URL returns the address of the started server.
func (s *Server) URL() string { return "http://" + s.listener.Addr().String() }

// newServer serves requests from the start of the application to its stop, which waits for running requests. It is called by Fx,
// which stops the server before the workers and the database.
func newServer(lc fx.Lifecycle, at address, handler http.Handler, logger *zap.Logger) *Server {
	s := &Server{http: &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second}}
	lc.Append(fx.Hook{
		OnStart: func(ctx context.Context) (err error) {
			if s.listener, err = new(net.ListenConfig).Listen(ctx, "tcp", string(at)); err != nil {
				return err
			}
			logger.Info("serving", zap.String("url", s.URL()))
			go func() {
				if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
					logger.Error("the HTTP server failed", zap.Error(err))
				}
			}()
			return nil
		},
		OnStop: s.http.Shutdown,
	})
	return s
}

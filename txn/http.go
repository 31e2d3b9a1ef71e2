package txn

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"strconv"

	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// HTTPConfig shapes [Manager.Middleware]. Zero fields mean the defaults.
type HTTPConfig struct {
	// Options are the terms of the transactions. A request can't be read twice, so that there are no retries.
	Options []Option
	// MaxResponse is the largest body of a response in bytes: it is held back until the commit. Default: 1 MiB.
	MaxResponse int
	// OnError answers a request whose transaction could not be begun or committed; the handler's own response is dropped then.
	// err is what [Manager.Do] returned. Default: 503 with Retry-After when the database can't be had, else 500, with no
	// detail; the error is logged in any case.
	OnError func(w http.ResponseWriter, r *http.Request, err error)
}

const (
	defaultMaxResponse = 1 << 20
	retryAfter         = 1 // seconds
)

// ErrStreaming is returned to a handler inside of [Manager.Middleware] that flushes or hijacks its response, or writes more
// than HTTPConfig.MaxResponse: the response has to wait for the commit.
var ErrStreaming = errors.New("txn: a response inside of the transaction middleware waits for the commit and can't be streamed: " +
	"serve this route without the middleware, or raise HTTPConfig.MaxResponse")

// Middleware calls a handler in a transaction, one for each request, which the request's context carries. It commits when
// the handler has answered with a status below 400, and rolls back when it has answered with another one or has panicked, and when
// the client has gone. GET and HEAD requests get read-only transactions. The response is held back until the
// transaction has ended, so that nobody is told of a success that didn't happen.
//
// It is meant for routes whose handlers are short: the request holds a connection of the pool while it is served.
func (m *Manager) Middleware(config HTTPConfig) func(http.Handler) http.Handler {
	setDefault(&config.MaxResponse, defaultMaxResponse)
	if config.OnError == nil {
		config.OnError = answerError
	}
	write := append(append([]Option(nil), config.Options...), Retry(pgfx.RetryPolicy{MaxAttempts: 1}))
	read := append(append([]Option(nil), write...), ReadOnly())
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			opts := write
			if r.Method == http.MethodGet || r.Method == http.MethodHead {
				opts = read
			}
			m.serve(w, r, next, &config, opts)
		})
	}
}

// errRefused is what the closure of a request returns when the handler has answered with an error.
var errRefused = errors.New("txn: the handler has answered with an error")

func (m *Manager) serve(w http.ResponseWriter, r *http.Request, next http.Handler, config *HTTPConfig, opts []Option) {
	held := &heldResponse{ResponseWriter: w, header: w.Header().Clone(), room: config.MaxResponse}
	err := m.Do(r.Context(), func(ctx context.Context) error {
		next.ServeHTTP(held, r.WithContext(ctx))
		switch {
		case held.streamed:
			return ErrStreaming
		case held.status >= http.StatusBadRequest:
			return errRefused
		}
		return nil
	}, opts...)
	if err == nil || err == errRefused { //nolint:errorlint // our own, as it is
		held.send()
		return
	}
	m.logger.Error("a request's transaction failed", zap.String("method", r.Method), zap.String("pattern", r.Pattern), zap.Error(err))
	config.OnError(w, r, err)
}

func answerError(w http.ResponseWriter, _ *http.Request, err error) {
	status := http.StatusInternalServerError
	if errors.Is(err, pgfx.ErrUnavailable) || errors.Is(err, pgfx.ErrAcquireTimeout) {
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
	}
	http.Error(w, http.StatusText(status), status)
}

// heldResponse is a response that waits.
type heldResponse struct {
	http.ResponseWriter

	header   http.Header
	status   int
	body     bytes.Buffer
	room     int
	streamed bool
}

// Header returns the header that will be sent.
func (h *heldResponse) Header() http.Header { return h.header }

// WriteHeader notes the status. Informational ones are not sent.
func (h *heldResponse) WriteHeader(status int) {
	if h.status == 0 && status >= http.StatusOK {
		h.status = status
	}
}

// Write holds p back.
func (h *heldResponse) Write(p []byte) (int, error) {
	h.WriteHeader(http.StatusOK)
	if h.body.Len()+len(p) > h.room {
		h.streamed = true
		return 0, fmt.Errorf("%w (it is %d bytes)", ErrStreaming, h.room)
	}
	return h.body.Write(p) //nolint:wrapcheck // it never fails
}

// FlushError returns ErrStreaming.
func (h *heldResponse) FlushError() error {
	h.streamed = true
	return ErrStreaming
}

// Hijack returns ErrStreaming.
func (h *heldResponse) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	h.streamed = true
	return nil, nil, ErrStreaming
}

// Unwrap lets http.ResponseController reach deadlines.
func (h *heldResponse) Unwrap() http.ResponseWriter { return h.ResponseWriter }

// send sends the response.
func (h *heldResponse) send() {
	header := h.ResponseWriter.Header()
	clear(header)
	maps.Copy(header, h.header)
	if h.status != 0 {
		h.ResponseWriter.WriteHeader(h.status)
	}
	_, _ = h.body.WriteTo(h.ResponseWriter) // the client has gone: nobody is there to be told
}

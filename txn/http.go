package txn

import (
	"bufio"
	"bytes"
	"cmp"
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

// HTTPConfig configures [Manager.Middleware]. Zero fields mean the defaults.
type HTTPConfig struct {
	// Options apply to every transaction. [Retry] has no effect, because a request body can't be read twice.
	Options []Option
	// MaxResponse is the maximum size of a response body in bytes. The body is buffered until the commit. Default: 1 MiB.
	MaxResponse int
	// OnError responds to a request whose transaction could not be begun or committed; the handler's own response is dropped.
	// err is the error of [Manager.Do]. Default: status 503 with Retry-After if the database is unavailable, otherwise 500, both
	// without details. The error is logged in any case.
	OnError func(w http.ResponseWriter, r *http.Request, err error)
}

const (
	defaultMaxResponse = 1 << 20
	retryAfter         = 1 // seconds
)

// ErrStreaming is returned to a handler inside [Manager.Middleware] that flushes or hijacks its response, or writes more than
// HTTPConfig.MaxResponse. The middleware buffers the response until the commit.
var ErrStreaming = errors.New("txn: the transaction middleware buffers the response until the commit, so it can't be streamed: " +
	"serve this route without the middleware, or raise HTTPConfig.MaxResponse")

// Middleware runs a handler in one transaction per request, which the context of the request carries. It commits if the status
// of the response is below 400. It rolls back if the status is 400 or above, if the handler panics, and if the client has
// disconnected. GET and HEAD requests get read-only transactions. The response is sent after the transaction has ended, so a
// client never receives a success that was not committed.
//
// Use it for routes with short handlers: a request holds a connection of the pool while it is served.
func (m *Manager) Middleware(config HTTPConfig) func(http.Handler) http.Handler {
	config.MaxResponse = cmp.Or(config.MaxResponse, defaultMaxResponse)
	if config.OnError == nil {
		config.OnError = respondWithError
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

// errHandlerFailed is the error of the closure if the status of the response is 400 or above.
var errHandlerFailed = errors.New("txn: the handler responded with an error status")

func (m *Manager) serve(w http.ResponseWriter, r *http.Request, next http.Handler, config *HTTPConfig, opts []Option) {
	response := &bufferedResponse{ResponseWriter: w, header: w.Header().Clone(), maxBody: config.MaxResponse}
	err := m.Do(r.Context(), func(ctx context.Context) error {
		next.ServeHTTP(response, r.WithContext(ctx))
		switch {
		case response.streamed:
			return ErrStreaming
		case response.status >= http.StatusBadRequest:
			return errHandlerFailed
		}
		return nil
	}, opts...)
	if err == nil || err == errHandlerFailed { //nolint:errorlint // Do returns the closure's error unchanged
		response.send()
		return
	}
	m.logger.Error("transaction of request failed", zap.String("method", r.Method), zap.String("pattern", r.Pattern), zap.Error(err))
	config.OnError(w, r, err)
}

func respondWithError(w http.ResponseWriter, _ *http.Request, err error) {
	status := http.StatusInternalServerError
	if errors.Is(err, pgfx.ErrUnavailable) || errors.Is(err, pgfx.ErrAcquireTimeout) {
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
	}
	http.Error(w, http.StatusText(status), status)
}

// bufferedResponse keeps a response until it is sent.
type bufferedResponse struct {
	http.ResponseWriter

	header   http.Header
	status   int
	body     bytes.Buffer
	maxBody  int
	streamed bool // the handler tried to stream the response or exceeded maxBody
}

// Header returns the header to be sent.
func (r *bufferedResponse) Header() http.Header { return r.header }

// WriteHeader records the status. Informational responses are dropped.
func (r *bufferedResponse) WriteHeader(status int) {
	if r.status == 0 && status >= http.StatusOK {
		r.status = status
	}
}

// Write appends p to the buffered body.
func (r *bufferedResponse) Write(p []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	if r.body.Len()+len(p) > r.maxBody {
		r.streamed = true
		return 0, fmt.Errorf("%w (%d bytes)", ErrStreaming, r.maxBody)
	}
	return r.body.Write(p) //nolint:wrapcheck // never fails
}

// FlushError returns ErrStreaming.
func (r *bufferedResponse) FlushError() error {
	r.streamed = true
	return ErrStreaming
}

// Hijack returns ErrStreaming.
func (r *bufferedResponse) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	r.streamed = true
	return nil, nil, ErrStreaming
}

// Unwrap gives http.ResponseController access to deadlines.
func (r *bufferedResponse) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *bufferedResponse) send() {
	header := r.ResponseWriter.Header()
	clear(header)
	maps.Copy(header, r.header)
	if r.status != 0 {
		r.ResponseWriter.WriteHeader(r.status)
	}
	_, _ = r.body.WriteTo(r.ResponseWriter) // fails if the client has disconnected
}

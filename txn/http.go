package txn

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/rdsfx-go/rdsfx/internal/logctx"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

// HTTPConfig configures [Manager.Middleware]. Zero fields mean the defaults.
type HTTPConfig struct {
	// Options apply to every transaction. [Retry] has no effect, because a request body can't be read twice.
	Options []Option
	// RequestOptions returns further options for the transaction of one request, such as [Set] with the tenant of its user. If it
	// returns an error, no transaction begins and OnError responds. Default: none.
	RequestOptions func(r *http.Request) ([]Option, error)
	// MaxRequest is the maximum size of a request body in bytes. The body is read before the transaction begins, so a slow client
	// holds no connection. A larger body gets status 413. With pgfx.Off there is no limit, and the handler reads the body inside the
	// transaction. Default: 1 MiB.
	MaxRequest int
	// MaxResponse is the maximum size of a response body in bytes. The body is buffered until the commit, and a handler that writes
	// more gets [ErrStreaming]. pgfx.Off buffers a body of any size. Default: 1 MiB.
	MaxResponse int
	// OnError responds to a request whose body could not be read, or whose transaction could not be begun or committed. The
	// handler's own response is dropped. err is the error of [Manager.Do], of RequestOptions or of reading the body. Default:
	// [ErrorStatus] without details, with Retry-After for status 503. The error is logged in any case, see [Manager.Middleware].
	OnError func(w http.ResponseWriter, r *http.Request, err error)
}

const (
	defaultMaxBody = 1 << 20
	retryAfter     = 1 // seconds

	// StatusClientClosedRequest is the status of a request whose client has disconnected. Only logs show it; nginx uses it, too.
	StatusClientClosedRequest = 499
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
// The request body is read before the transaction begins. Use the middleware for routes with short handlers: a request holds a
// connection of the pool while its handler runs.
//
// Failed transactions are logged as errors. A client that has disconnected and a body that is too large are logged at level info,
// an unavailable database (see pgfx.IsUnavailable) at level warn. Each of them is logged at most once a second, without a stack.
// [Stats.Requests] counts all.
func (m *Manager) Middleware(config HTTPConfig) func(http.Handler) http.Handler {
	config.MaxRequest = cmp.Or(config.MaxRequest, defaultMaxBody)
	config.MaxResponse = cmp.Or(config.MaxResponse, defaultMaxBody)
	if config.OnError == nil {
		config.OnError = respondWithError
	}
	sampled := m.logger.WithOptions(zap.AddStacktrace(zap.FatalLevel), zap.WrapCore(func(core zapcore.Core) zapcore.Core {
		return zapcore.NewSamplerWithOptions(core, time.Second, 1, 0)
	}))
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := m.serve(w, r, next, &config); err != nil {
				m.logFailedRequest(sampled, r, err)
				config.OnError(w, r, err)
			}
		})
	}
}

// errHandlerFailed is the error of the closure if the status of the response is 400 or above.
var errHandlerFailed = errors.New("txn: the handler responded with an error status")

// serve serves a request, unless it returns an error.
func (m *Manager) serve(w http.ResponseWriter, r *http.Request, next http.Handler, config *HTTPConfig) error {
	opts, err := config.options(r)
	if err != nil {
		return err
	}
	if config.MaxRequest != pgfx.Off && r.Body != nil && r.Body != http.NoBody {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(config.MaxRequest)))
		if err != nil {
			return &requestBodyError{err}
		}
		r = r.WithContext(r.Context()) // a copy
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	response := &bufferedResponse{ResponseWriter: w, header: w.Header().Clone(), maxBody: config.MaxResponse}
	err = m.Do(r.Context(), func(ctx context.Context) error {
		next.ServeHTTP(response, r.WithContext(ctx))
		switch {
		case response.failure != nil:
			return response.failure
		case response.streamed:
			return ErrStreaming
		case response.status >= http.StatusBadRequest:
			return errHandlerFailed
		}
		return nil
	}, opts...)
	if err == nil || err == errHandlerFailed { //nolint:errorlint // Do returns the closure's error unchanged
		response.send()
		return nil
	}
	return err
}

// options returns the options for the transaction of a request.
func (c *HTTPConfig) options(r *http.Request) ([]Option, error) {
	opts := slices.Clone(c.Options)
	if c.RequestOptions != nil {
		own, err := c.RequestOptions(r)
		if err != nil {
			return nil, fmt.Errorf("txn: options of the request: %w", err)
		}
		opts = append(opts, own...)
	}
	opts = append(opts, Retry(pgfx.RetryPolicy{MaxAttempts: 1}))
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		opts = append(opts, ReadOnly())
	}
	return opts, nil
}

// requestBodyError is the error of reading a request body.
type requestBodyError struct{ err error }

func (e *requestBodyError) Error() string { return "txn: read the request body: " + e.err.Error() }

func (e *requestBodyError) Unwrap() error { return e.err }

// logFailedRequest logs and counts a request that failed with err.
func (m *Manager) logFailedRequest(sampled *zap.Logger, r *http.Request, err error) {
	fields := []zap.Field{zap.String("method", r.Method), zap.String("pattern", r.Pattern), zap.Error(err), logctx.Field(r.Context())}
	_, reading := errors.AsType[*requestBodyError](err)
	switch {
	case ErrorStatus(err) == http.StatusRequestEntityTooLarge:
		m.counters.requestsTooLarge.Add(1)
		sampled.Info("request refused because its body is too large", fields...)
	case reading || errors.Is(r.Context().Err(), context.Canceled):
		m.counters.requestsAborted.Add(1)
		sampled.Info("request aborted by its client", fields...)
	case pgfx.IsUnavailable(err):
		m.counters.requestsUnavailable.Add(1)
		sampled.Warn("request failed because the database is unavailable", fields...)
	default:
		m.counters.requestsFailed.Add(1)
		m.logger.Error("transaction of request failed", fields...)
	}
}

// ErrorStatus returns the HTTP status for an error of [Manager.Do] or of reading a request body:
//   - 204 for a [*CommittedError]: the work was done, and the client must not repeat it,
//   - 413 for a body that is too large, 400 for any other error of the body,
//   - 499 if the client has disconnected (context.Canceled),
//   - 503 if the database is unavailable (see pgfx.IsUnavailable),
//   - 504 after a deadline,
//   - 500 for any other error, also for [ErrOutcomeUnknown] and [ErrLockLost].
func ErrorStatus(err error) int {
	_, reading := errors.AsType[*requestBodyError](err)
	_, large := errors.AsType[*http.MaxBytesError](err)
	_, committed := errors.AsType[*CommittedError](err)
	switch {
	case committed:
		return http.StatusNoContent
	case large:
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, ErrOutcomeUnknown), errors.Is(err, ErrLockLost): // whose causes suggest that a retry is safe
		return http.StatusInternalServerError
	case pgfx.IsUnavailable(err):
		return http.StatusServiceUnavailable
	case errors.Is(err, context.Canceled):
		return StatusClientClosedRequest
	case errors.Is(err, context.DeadlineExceeded):
		return http.StatusGatewayTimeout
	case reading:
		return http.StatusBadRequest
	}
	return http.StatusInternalServerError
}

func respondWithError(w http.ResponseWriter, _ *http.Request, err error) {
	status := ErrorStatus(err)
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
	}
	http.Error(w, cmp.Or(http.StatusText(status), "client closed request"), status)
}

// bufferedResponse keeps a response until it is sent.
type bufferedResponse struct {
	http.ResponseWriter

	header   http.Header
	sent     http.Header // a copy of header when the status was set
	status   int
	body     bytes.Buffer
	maxBody  int
	streamed bool  // the handler tried to stream the response or exceeded maxBody
	failure  error // of a middleware inside the transaction
}

// Header returns the header to be sent. Changes after WriteHeader have no effect, except for trailers.
func (r *bufferedResponse) Header() http.Header { return r.header }

// WriteHeader records the status and the header. Informational responses are dropped. An invalid status panics, as in net/http.
func (r *bufferedResponse) WriteHeader(status int) {
	const minStatus, maxStatus = 100, 999
	if status < minStatus || status > maxStatus {
		panic(fmt.Sprintf("txn: invalid WriteHeader code %d", status))
	}
	if r.status == 0 && status >= http.StatusOK {
		r.status, r.sent = status, r.header.Clone()
	}
}

// Write appends p to the buffered body.
func (r *bufferedResponse) Write(p []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	if r.status == http.StatusNoContent || r.status == http.StatusNotModified {
		return 0, http.ErrBodyNotAllowed
	}
	if r.maxBody != pgfx.Off && r.body.Len()+len(p) > r.maxBody {
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
	if r.status == 0 {
		maps.Copy(header, r.header) // net/http sends status 200
		return
	}
	maps.Copy(header, r.sent)
	r.ResponseWriter.WriteHeader(r.status)
	_, _ = r.body.WriteTo(r.ResponseWriter) // fails if the client has disconnected
	maps.Copy(header, r.header)             // net/http sends trailers from it
}

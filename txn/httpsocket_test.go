package txn_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/txn"
)

// newServer serves a handler inside the middleware. Each request that arrives is sent to the channel.
func newServer(t *testing.T, m *txn.Manager, config txn.HTTPConfig, handler http.HandlerFunc) (*httptest.Server, chan string) {
	t.Helper()
	arrived := make(chan string, 100)
	inside := m.Middleware(config)(handler)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- r.URL.Path
		inside.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server, arrived
}

func postTo(t *testing.T, url, body string) (status int, response string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	require.NoError(t, err)
	got, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(t, err)
	defer func() { _ = got.Body.Close() }()
	content, err := io.ReadAll(got.Body)
	require.NoError(t, err)
	return got.StatusCode, string(content)
}

// startPost opens a connection and sends a request whose body of 4 bytes is still to come.
func startPost(t *testing.T, server *httptest.Server) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	_, err = io.WriteString(conn, "POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n")
	require.NoError(t, err)
	return conn
}

func TestMiddleware_SlowBodyHoldsNoConnection(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	server, arrived := newServer(t, m, txn.HTTPConfig{}, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		assert.NoError(t, insert(r.Context(), m, string(body)))
		_, _ = w.Write(body)
	})
	slow := []net.Conn{startPost(t, server), startPost(t, server)}
	<-arrived
	<-arrived
	for _, name := range []string{"a", "b", "c"} {
		status, got := postTo(t, server.URL, name)
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, name, got)
	}
	for i, conn := range slow {
		_, err := io.WriteString(conn, []string{"slow", "late"}[i])
		require.NoError(t, err)
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		assert.Equal(t, http.StatusOK, response.StatusCode)
		require.NoError(t, response.Body.Close())
	}
	assert.Equal(t, []string{"a", "b", "c", "late", "slow"}, entries(t, m.DB()))
}

func TestMiddleware_LimitsRequestBody(t *testing.T) {
	t.Parallel()
	m, logs := loggedManager(t)
	read := func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		_, _ = w.Write(body)
	}
	server, _ := newServer(t, m, txn.HTTPConfig{MaxRequest: 10}, read)
	status, got := postTo(t, server.URL, "0123456789")
	assert.Equal(t, http.StatusOK, status)
	assert.Equal(t, "0123456789", got)
	status, _ = postTo(t, server.URL, "0123456789a")
	assert.Equal(t, http.StatusRequestEntityTooLarge, status)
	assert.Equal(t, txn.Requests{TooLarge: 1}, m.Stats().Requests)
	require.Len(t, logs.All(), 1)
	assert.Equal(t, zap.InfoLevel, logs.All()[0].Level)
	assert.Equal(t, "request refused because its body is too large", logs.All()[0].Message)
	assert.Empty(t, logs.All()[0].Stack)

	inside := make(chan struct{})
	server, _ = newServer(t, m, txn.HTTPConfig{MaxRequest: pgfx.Off}, func(w http.ResponseWriter, r *http.Request) {
		close(inside)
		read(w, r)
	})
	conn := startPost(t, server)
	<-inside // before the body has arrived
	_, err := io.WriteString(conn, "body")
	require.NoError(t, err)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
}

// loggedManager returns a manager whose logger adds a stack to each warning.
func loggedManager(t *testing.T) (*txn.Manager, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	return managerOf(t, newDB(t, maxConns(1)), txn.WithLogger(zap.New(core, zap.AddStacktrace(zap.DebugLevel)))), logs
}

func TestMiddleware_ClientGoneIsCountedAndNoError(t *testing.T) {
	t.Parallel()
	m, logs := loggedManager(t)
	inserted := make(chan struct{}, 1)
	server, arrived := newServer(t, m, txn.HTTPConfig{}, func(_ http.ResponseWriter, r *http.Request) {
		assert.NoError(t, insert(r.Context(), m, "gone"))
		inserted <- struct{}{}
		<-r.Context().Done()
	})
	requireAborted := func(n int64) {
		t.Helper()
		require.Eventually(t, func() bool { return m.Stats().Requests.Aborted == n }, waitTimeout, time.Millisecond)
	}
	conn := startPost(t, server)
	<-arrived
	require.NoError(t, conn.Close()) // in the middle of the body
	requireAborted(1)
	conn = startPost(t, server)
	_, err := io.WriteString(conn, "body")
	require.NoError(t, err)
	<-inserted
	require.NoError(t, conn.Close()) // in the handler
	requireAborted(2)
	assert.Empty(t, entries(t, m.DB()))
	server.Close() // waits for the handlers
	require.NotEmpty(t, logs.FilterMessage("request aborted by its client").All())
	for _, entry := range logs.All() {
		assert.Equal(t, zap.InfoLevel, entry.Level, entry.Message)
		assert.Empty(t, entry.Stack)
	}
}

func TestMiddleware_UnavailableDatabaseIsCountedAndSampled(t *testing.T) {
	t.Parallel()
	m, logs := loggedManager(t)
	server, _ := newServer(t, m, txn.HTTPConfig{}, func(http.ResponseWriter, *http.Request) { t.Error("the handler ran") })
	m.DB().Internals().Gate().Close(errTest)
	for range 50 {
		status, _ := postTo(t, server.URL, "body")
		require.Equal(t, http.StatusServiceUnavailable, status)
	}
	m.DB().Internals().Gate().Open()
	assert.EqualValues(t, 50, m.Stats().Requests.Unavailable)
	found := logs.FilterMessage("request failed because the database is unavailable").All()
	require.NotEmpty(t, found)
	assert.Less(t, len(found), 50, "sampled")
	for _, entry := range logs.All() {
		assert.Equal(t, zap.WarnLevel, entry.Level, entry.Message)
		assert.Empty(t, entry.Stack)
	}
}

func TestMiddleware_HeadersFollowNetHTTP(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	handlers := map[string]http.HandlerFunc{
		"after WriteHeader": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Before", "1")
			w.WriteHeader(http.StatusAccepted)
			w.Header().Set("X-After", "1")
			w.Header().Del("X-Before")
			_, _ = io.WriteString(w, "body")
		},
		"after Write": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "body")
			w.Header().Set("X-After", "1")
		},
		"trailers": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Trailer", "X-Declared")
			_, _ = io.WriteString(w, "body")
			w.Header().Set("X-Declared", "1")
			w.Header().Set(http.TrailerPrefix+"X-Prefixed", "1")
			w.Header().Set("X-After", "1")
		},
		"nothing": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Before", "1") },
		"a body of status 204": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNoContent)
			_, err := io.WriteString(w, "body")
			assert.ErrorIs(t, err, http.ErrBodyNotAllowed)
		},
	}
	for name, handler := range handlers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			get := func(handler http.Handler) (int, http.Header, http.Header, string) {
				server := httptest.NewServer(handler)
				defer server.Close()
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, http.NoBody)
				require.NoError(t, err)
				response, err := server.Client().Do(r)
				require.NoError(t, err)
				body, err := io.ReadAll(response.Body)
				require.NoError(t, err)
				require.NoError(t, response.Body.Close())
				response.Header.Del("Date")
				return response.StatusCode, response.Header, response.Trailer, string(body)
			}
			wantStatus, wantHeader, wantTrailer, wantBody := get(handler)
			status, header, trailer, body := get(m.Middleware(txn.HTTPConfig{})(handler))
			assert.Equal(t, wantStatus, status)
			assert.Equal(t, wantHeader, header)
			assert.Equal(t, wantTrailer, trailer)
			assert.Equal(t, wantBody, body)
		})
	}
	assert.PanicsWithValue(t, "txn: invalid WriteHeader code 1000", func() {
		serve(m, txn.HTTPConfig{}, post(t), func(w http.ResponseWriter, r *http.Request) {
			assert.NoError(t, insert(r.Context(), m, "gone"))
			w.WriteHeader(1000)
		})
	})
	assert.Empty(t, entries(t, m.DB()))
}

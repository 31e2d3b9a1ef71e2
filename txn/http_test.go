package txn_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/txn"
)

// serve serves one request with a handler inside the middleware.
func serve(m *txn.Manager, config txn.HTTPConfig, r *http.Request, handler http.HandlerFunc) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	m.Middleware(config)(handler).ServeHTTP(w, r)
	return w
}

func post(t *testing.T) *http.Request {
	t.Helper()
	return httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(""))
}

func TestMiddleware_CommitsByStatus(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(2))
	for status, stored := range map[int]bool{0: true, 200: true, 201: true, 303: true, 400: false, 404: false, 500: false} {
		name := http.StatusText(status)
		w := serve(m, txn.HTTPConfig{}, post(t), func(w http.ResponseWriter, r *http.Request) {
			assert.NoError(t, insert(r.Context(), m, name))
			w.Header().Set("X-Own", "value")
			w.WriteHeader(http.StatusEarlyHints)
			if status != 0 {
				w.WriteHeader(status)
				w.WriteHeader(599) // too late
			}
			_, err := io.WriteString(w, "body")
			assert.NoError(t, err)
			assert.NotContains(t, entries(t, m.DB()), name, "nothing is committed before the handler returns")
		})
		assert.Equal(t, max(status, 200), w.Code)
		assert.Equal(t, "body", w.Body.String())
		assert.Equal(t, "value", w.Header().Get("X-Own"))
		assert.Equal(t, stored, slices.Contains(entries(t, m.DB()), name), "%d", status)
	}
}

func TestMiddleware_GetIsReadOnly(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	for method, readOnly := range map[string]string{
		http.MethodGet: "on", http.MethodHead: "on", http.MethodPost: "off", http.MethodDelete: "off",
	} {
		var got string
		r := httptest.NewRequestWithContext(t.Context(), method, "/", http.NoBody)
		serve(m, txn.HTTPConfig{Options: []txn.Option{txn.Serializable()}}, r, func(_ http.ResponseWriter, r *http.Request) {
			assert.NoError(t, m.QueryRow(r.Context(), "show transaction_read_only").Scan(&got))
			var isolation string
			assert.NoError(t, m.QueryRow(r.Context(), "show transaction_isolation").Scan(&isolation))
			assert.Equal(t, "serializable", isolation)
		})
		assert.Equal(t, readOnly, got, method)
	}
}

func TestMiddleware_PanicRollsBackAndContinues(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	requireUnharmed(t, m, func() {
		assert.PanicsWithValue(t, http.ErrAbortHandler, func() {
			serve(m, txn.HTTPConfig{}, post(t), func(_ http.ResponseWriter, r *http.Request) {
				assert.NoError(t, insert(r.Context(), m, "gone"))
				panic(http.ErrAbortHandler)
			})
		})
	})
}

func TestMiddleware_DisconnectRollsBack(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	requireUnharmed(t, m, func() {
		ctx, cancel := context.WithCancel(t.Context())
		w := serve(m, txn.HTTPConfig{}, post(t).WithContext(ctx), func(_ http.ResponseWriter, r *http.Request) {
			assert.NoError(t, insert(r.Context(), m, "gone"))
			cancel()
		})
		assert.Equal(t, txn.StatusClientClosedRequest, w.Code)
	})
}

func TestMiddleware_FailedCommitReplacesResponse(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	swallow := func(w http.ResponseWriter, r *http.Request) {
		_ = m.Do(r.Context(), func(context.Context) error { return errTest })
		w.Header().Set("X-Own", "value")
		w.WriteHeader(http.StatusCreated)
	}
	w := serve(m, txn.HTTPConfig{}, post(t), swallow)
	assert.Equal(t, http.StatusInternalServerError, w.Code)
	assert.Empty(t, w.Header().Get("X-Own"))
	assert.NotContains(t, w.Body.String(), errTest.Error())

	var got error
	w = serve(m, txn.HTTPConfig{OnError: func(w http.ResponseWriter, _ *http.Request, err error) {
		got = err
		w.WriteHeader(http.StatusTeapot)
	}}, post(t), swallow)
	assert.Equal(t, http.StatusTeapot, w.Code)
	require.ErrorIs(t, got, txn.ErrRollbackOnly)
}

func TestMiddleware_UnavailableDatabaseIs503(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	m.DB().Internals().Gate().Close(errTest)
	w := serve(m, txn.HTTPConfig{}, post(t), func(http.ResponseWriter, *http.Request) { t.Error("the handler ran") })
	assert.Equal(t, http.StatusServiceUnavailable, w.Code)
	assert.Equal(t, "1", w.Header().Get("Retry-After"))
	m.DB().Internals().Gate().Open()
}

func TestErrorStatus_IgnoresCauseOfDoneAndUnknownWork(t *testing.T) {
	t.Parallel()
	terminated := &pgconn.PgError{Code: sqlstate.AdminShutdown}
	require.True(t, pgfx.IsUnavailable(terminated))
	assert.Equal(t, http.StatusNoContent, txn.ErrorStatus(&txn.CommittedError{Cause: context.DeadlineExceeded}))
	assert.Equal(t, http.StatusInternalServerError, txn.ErrorStatus(errors.Join(context.Canceled, txn.ErrOutcomeUnknown, terminated)))
	assert.Equal(t, http.StatusInternalServerError, txn.ErrorStatus(errors.Join(context.Canceled, txn.ErrLockLost, terminated)))
}

func TestMiddleware_RefusesStreaming(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	for name, stream := range map[string]func(w http.ResponseWriter) error{
		"flush":  func(w http.ResponseWriter) error { return http.NewResponseController(w).Flush() },
		"hijack": func(w http.ResponseWriter) error { _, _, err := http.NewResponseController(w).Hijack(); return err },
		"large": func(w http.ResponseWriter) error {
			_, err := w.Write(make([]byte, 6))
			if err != nil {
				return err
			}
			_, err = w.Write(make([]byte, 5))
			return err
		},
	} {
		requireUnharmed(t, m, func() {
			w := serve(m, txn.HTTPConfig{MaxResponse: 10}, post(t), func(w http.ResponseWriter, r *http.Request) {
				assert.NoError(t, insert(r.Context(), m, "gone"))
				assert.ErrorIs(t, stream(w), txn.ErrStreaming, name)
			})
			assert.Equal(t, http.StatusInternalServerError, w.Code, name)
		})
	}
}

func TestMiddleware_LimitsResponseBodyUnlessOff(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	body := strings.Repeat("x", 1<<20+1) // more than the default
	for limit, want := range map[int]int{0: http.StatusInternalServerError, len(body): http.StatusOK, pgfx.Off: http.StatusOK} {
		w := serve(m, txn.HTTPConfig{MaxResponse: limit}, post(t), func(w http.ResponseWriter, _ *http.Request) {
			_, err := io.WriteString(w, body)
			assert.Equal(t, want == http.StatusOK, err == nil, err)
		})
		assert.Equal(t, want, w.Code, limit)
		assert.Equal(t, want == http.StatusOK, w.Body.String() == body, limit)
	}
}

func TestMiddleware_ResponseControllerSetsDeadlines(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	w := serve(m, txn.HTTPConfig{}, post(t), func(w http.ResponseWriter, _ *http.Request) {
		assert.ErrorIs(t, http.NewResponseController(w).EnableFullDuplex(), errors.ErrUnsupported, "the call reaches the recorder")
	})
	assert.Equal(t, http.StatusOK, w.Code)
}

func TestMiddleware_NeverRetries(t *testing.T) {
	t.Parallel()
	m := managerOf(t, newDB(t, maxConns(1)), txn.WithDefaults(fastPolicy))
	calls := 0
	w := serve(m, txn.HTTPConfig{}, post(t), func(_ http.ResponseWriter, r *http.Request) {
		calls++
		_ = fail(r.Context(), m, "40001")
	})
	assert.Equal(t, http.StatusInternalServerError, w.Code)
	assert.Equal(t, 1, calls)
}

package txn_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/txn"
)

// shop is an endpoint that inserts an entry for each order.
type shop struct {
	m       *txn.Manager
	handler http.Handler
	insert  string // the statement for an order
	served  atomic.Int64
	inside  func(ctx context.Context) // called by the handler, unless nil
}

func newShop(t *testing.T, m *txn.Manager, config txn.IdempotencyConfig) *shop {
	t.Helper()
	_, err := m.Exec(t.Context(), txn.IdempotencyTable)
	require.NoError(t, err)
	s := &shop{m: m, insert: "insert into entries (name, n) values ($1, $2)"}
	s.handler = m.Idempotent(config)(s)
	return s
}

// ServeHTTP inserts the body as an entry. Its response is different each time.
func (s *shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := s.served.Add(1)
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if _, err := s.m.Exec(r.Context(), s.insert, string(body), n); err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	if s.inside != nil {
		s.inside(r.Context())
	}
	w.Header().Set("Location", fmt.Sprintf("/orders/%d", n))
	w.WriteHeader(http.StatusCreated)
	_, _ = fmt.Fprintf(w, "order %d", n)
}

// order sends a request with a key.
func (s *shop) order(t *testing.T, key, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/orders?dry=no", strings.NewReader(body))
	r.Header.Set("Idempotency-Key", key)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	return w
}

func TestIdempotent_RepeatsStoredResponse(t *testing.T) {
	t.Parallel()
	s := newShop(t, newManager(t), txn.IdempotencyConfig{})
	traced := func(key string, id string) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/orders?dry=no", strings.NewReader("book"))
		r.Header.Set("Idempotency-Key", key)
		w := httptest.NewRecorder()
		w.Header().Set("X-Trace", id) // as an outer middleware does
		s.handler.ServeHTTP(w, r)
		return w
	}
	first := traced("k1", "1")
	require.Equal(t, http.StatusCreated, first.Code)
	assert.Empty(t, first.Header().Get(txn.ReplayedHeader))
	for range 2 {
		again := traced("k1", "2")
		assert.Equal(t, http.StatusCreated, again.Code)
		assert.Equal(t, "order 1", again.Body.String())
		assert.Equal(t, "/orders/1", again.Header().Get("Location"))
		assert.Equal(t, "true", again.Header().Get(txn.ReplayedHeader))
		assert.Equal(t, "2", again.Header().Get("X-Trace"), "the ID of this request")
	}
	assert.EqualValues(t, 1, s.served.Load())

	assert.Equal(t, http.StatusConflict, s.order(t, "k2", "book").Code, "the handler's own error")
	assert.Equal(t, http.StatusCreated, s.order(t, "k2", "pen").Code, "nothing was stored for a key whose work was rolled back")
	assert.Equal(t, []string{"book", "pen"}, entries(t, s.m.DB()))
}

func TestIdempotent_RefusesBadKeys(t *testing.T) {
	t.Parallel()
	s := newShop(t, newManager(t), txn.IdempotencyConfig{Scope: func(r *http.Request) string { return r.Header.Get("X-Client") }})
	require.Equal(t, http.StatusCreated, s.order(t, "k", "book", "X-Client", "ann").Code)
	for key, body := range map[string]string{"k": "pen", "": "pen", "ü": "pen", strings.Repeat("k", 256): "pen"} {
		w := s.order(t, key, body, "X-Client", "ann")
		want := http.StatusBadRequest
		if key == "k" {
			want = http.StatusUnprocessableEntity
		}
		assert.Equal(t, want, w.Code, key)
	}
	assert.EqualValues(t, 1, s.served.Load())
	assert.Equal(t, http.StatusCreated, s.order(t, "k", "pen", "X-Client", "bob").Code, "another client's key")

	optional := newShop(t, s.m, txn.IdempotencyConfig{Optional: true, Header: "X-Key"})
	assert.Equal(t, http.StatusCreated, optional.order(t, "", "cup").Code)
	assert.Equal(t, http.StatusConflict, optional.order(t, "", "cup").Code, "runs again")
	get := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/orders", http.NoBody)
	w := httptest.NewRecorder()
	s.m.Idempotent(txn.IdempotencyConfig{})(http.NotFoundHandler()).ServeHTTP(w, get)
	assert.Equal(t, http.StatusNotFound, w.Code, "needs no key")
}

func TestIdempotent_ConcurrentDuplicateGetsConflict(t *testing.T) {
	t.Parallel()
	s := newShop(t, newManager(t), txn.IdempotencyConfig{})
	s.inside = func(context.Context) {
		w := s.order(t, "k", "book")
		assert.Equal(t, http.StatusConflict, w.Code)
		assert.Equal(t, "1", w.Header().Get("Retry-After"))
	}
	require.Equal(t, http.StatusCreated, s.order(t, "k", "book").Code)
	assert.Equal(t, "order 1", s.order(t, "k", "book").Body.String())

	s.inside = nil
	var group sync.WaitGroup
	for i := range 40 {
		group.Go(func() {
			body := fmt.Sprintf("body %d", i%4)
			for s.order(t, body, body).Code == http.StatusConflict { //nolint:revive // again, as a client does
			}
		})
	}
	group.Wait()
	assert.EqualValues(t, 1+4, s.served.Load())
}

func TestIdempotent_LostCommitIsRepeatedOnce(t *testing.T) {
	t.Parallel()
	for name, by := range map[string]txn.CommitResolution{"unresolved": txn.Unresolved, "witness": txn.ByWitness, "marker": txn.ByMarker} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := newProxy(t)
			m := managerOf(t, openDB(t, proxy.URL()), txn.WithDefaults(txn.ResolveCommit(by)))
			s := newShop(t, m, txn.IdempotencyConfig{})
			for i, strike := range []func(){proxy.DropCommitAck, proxy.DropCommit} {
				body := fmt.Sprintf("order %d", i)
				strike()
				w := s.order(t, body, body)
				for range 10 { // as a client does
					if w.Code < http.StatusBadRequest {
						break
					}
					w = s.order(t, body, body)
				}
				require.Equal(t, http.StatusCreated, w.Code)
				assert.Equal(t, w.Body.String(), s.order(t, body, body).Body.String())
			}
			assert.Equal(t, []string{"order 0", "order 1"}, entries(t, m.DB()))
		})
	}
}

func TestIdempotent_ManyLostCommits(t *testing.T) {
	t.Parallel()
	proxy := newProxy(t)
	m := managerOf(t, openDB(t, proxy.URL(), maxConns(8)), txn.WithDefaults(txn.ResolveCommit(txn.Unresolved)))
	s := newShop(t, m, txn.IdempotencyConfig{})
	_, err := m.Exec(t.Context(), "create table orders (body text, n int)") // without a constraint that would hide a mistake
	require.NoError(t, err)
	s.insert = "insert into orders values ($1, $2)"
	var commits atomic.Int64
	proxy.OnCommit(func() faults.CommitFault {
		return []faults.CommitFault{faults.CommitPasses, faults.CommitAckDropped, faults.CommitDropped}[commits.Add(1)%3]
	})
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for j := range 5 {
				body := fmt.Sprintf("%d-%d", i, j)
				for s.order(t, body, body).Code != http.StatusCreated { //nolint:revive // again, as a client does
				}
			}
		})
	}
	group.Wait()
	proxy.OnCommit(nil)
	var orders, different int
	require.NoError(t, m.QueryRow(t.Context(), "select count(*), count(distinct body) from orders").Scan(&orders, &different))
	assert.Equal(t, 8*5, different)
	assert.Equal(t, different, orders, "each order was stored once")
}

func TestIdempotent_KeysExpire(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	s := newShop(t, m, txn.IdempotencyConfig{TTL: time.Hour})
	require.Equal(t, http.StatusCreated, s.order(t, "k", "book").Code)
	var hours float64
	require.NoError(t, m.QueryRow(t.Context(), "select extract(epoch from max(expires) - now()) / 3600 from rdsfx_idempotency_keys").Scan(&hours))
	assert.InDelta(t, 1, hours, 0.1)
	_, err := m.Exec(t.Context(), "update rdsfx_idempotency_keys set expires = now(); delete from entries")
	require.NoError(t, err)
	require.Equal(t, "order 2", s.order(t, "k", "book").Body.String(), "the key is new")
	assert.Equal(t, "order 2", s.order(t, "k", "book").Body.String())

	_, err = m.Exec(t.Context(), "update rdsfx_idempotency_keys set expires = now()")
	require.NoError(t, err)
	other := managerOf(t, m.DB()) // whose first request sweeps
	newShop(t, other, txn.IdempotencyConfig{}).order(t, "other", "pen")
	require.Eventually(t, func() bool {
		var left int
		err := m.QueryRow(t.Context(), "select count(*) from rdsfx_idempotency_keys where key = 'k'").Scan(&left)
		return err == nil && left == 0
	}, waitTimeout, time.Millisecond)
}

func TestIdempotent_NamesMissingTable(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	var got error
	config := txn.IdempotencyConfig{HTTP: txn.HTTPConfig{OnError: func(_ http.ResponseWriter, _ *http.Request, err error) { got = err }}}
	s := &shop{m: m, handler: m.Idempotent(config)(neverServed(t))}
	s.order(t, "k", "book")
	require.ErrorContains(t, got, "IdempotencySetup")
	step := txn.IdempotencySetup()
	for range 2 {
		require.NoError(t, step.Run(t.Context(), m.DB()))
	}
}

func neverServed(t *testing.T) http.Handler {
	t.Helper()
	return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("served") })
}

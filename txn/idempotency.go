package txn

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

// IdempotencyTable is the script that creates the table of [Manager.Idempotent], for a migration. [IdempotencySetup] runs it.
const IdempotencyTable = `create table if not exists rdsfx_idempotency_keys (
	scope text not null,
	key text not null,
	fingerprint bytea not null,
	status int not null,
	header jsonb not null,
	body bytea not null,
	expires timestamptz not null,
	primary key (scope, key)
);
create index if not exists rdsfx_idempotency_keys_expires on rdsfx_idempotency_keys (expires);`

// IdempotencySetup returns a setup step that creates the table of [Manager.Idempotent]. If you use migrations, put
// [IdempotencyTable] into one of them instead.
func IdempotencySetup() pgfx.SetupStep {
	// Two concurrent CREATE TABLE IF NOT EXISTS can fail.
	return pgfx.SetupSQL("create rdsfx_idempotency_keys", "select pg_advisory_xact_lock(hashtext('rdsfx_idempotency_keys'));"+IdempotencyTable)
}

// IdempotencyConfig configures [Manager.Idempotent]. Zero fields mean the defaults.
type IdempotencyConfig struct {
	// HTTP configures the transaction of each request, as in [Manager.Middleware].
	HTTP HTTPConfig
	// Header is the name of the request header with the key. Default: Idempotency-Key.
	Header string
	// Optional serves requests without a key as [Manager.Middleware] does. Default: they get status 400.
	Optional bool
	// Scope returns the client or tenant to which a key belongs. The same key in another scope is another key. Set it unless all
	// clients may see the responses of all others. Default: one scope for all.
	Scope func(r *http.Request) string
	// TTL is how long a response is kept. Default: 24 h.
	TTL time.Duration
}

const (
	// ReplayedHeader is the header with the value true in a stored response that [Manager.Idempotent] sends again.
	ReplayedHeader = "Idempotency-Replayed"

	idempotencyTTL = 24 * time.Hour
	maxKey         = 255 // bytes

	storeResponse = `insert into rdsfx_idempotency_keys as k (scope, key, fingerprint, status, header, body, expires)
		values ($1, $2, $3, $4, $5, $6, now() + make_interval(secs => $7))
		on conflict (scope, key) do update set fingerprint = excluded.fingerprint, status = excluded.status, header = excluded.header,
			body = excluded.body, expires = excluded.expires where k.expires <= now()`
	findResponse = `select fingerprint, status, header, body from rdsfx_idempotency_keys where scope = $1 and key = $2 and expires > now()`
	sweepKeys    = `delete from rdsfx_idempotency_keys where expires <= now()`
)

// Idempotent is [Manager.Middleware] for requests that a client may repeat, such as payments. The client sends a key of its choice,
// for example a UUID, in the header Idempotency-Key, and the same key when it repeats the request. The response is stored in the
// transaction of the request. So the work is done once, and a repeated request gets the stored response, even if the reply to the
// COMMIT was lost.
//
//   - A response with a status below 400 is stored, with its body and the headers that the handler has set. It is sent again with
//     the header Idempotency-Replayed. Other responses are not stored, because their work was rolled back. The handler runs again.
//   - While a request with the same key is being served, a second one gets status 409 with Retry-After.
//   - A key that comes with another method, path, query or body gets status 422.
//   - A key that is missing, longer than 255 bytes or not printable ASCII gets status 400.
//   - GET and HEAD requests need no key.
//
// The table comes from [IdempotencySetup] or [IdempotencyTable]. Responses that have expired are deleted about once an hour. If
// options of the transaction change its role, that role needs the right to select, insert and update in the table.
func (m *Manager) Idempotent(config IdempotencyConfig) func(http.Handler) http.Handler {
	config.Header = cmp.Or(config.Header, "Idempotency-Key")
	config.TTL = cmp.Or(config.TTL, idempotencyTTL)
	transaction := m.Middleware(config.HTTP)
	return func(next http.Handler) http.Handler {
		return transaction(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet || r.Method == http.MethodHead || config.Optional && r.Header.Get(config.Header) == "" {
				next.ServeHTTP(w, r)
				return
			}
			response, ok := w.(*bufferedResponse)
			if !ok { // of Middleware
				panic("txn: Idempotent: the response writer is not that of the transaction")
			}
			response.failure = m.serveOnce(response, r, next, &config)
		}))
	}
}

// serveOnce serves a request in its transaction: with the stored response, or with the handler's, which it stores.
func (m *Manager) serveOnce(w *bufferedResponse, r *http.Request, next http.Handler, config *IdempotencyConfig) error {
	m.sweepIdempotencyKeys()
	key := idempotencyKey{key: r.Header.Get(config.Header)}
	if !validKey(key.key) {
		http.Error(w, fmt.Sprintf("The header %s needs a key of 1 to %d printable ASCII characters.", config.Header, maxKey), http.StatusBadRequest)
		return nil
	}
	if config.Scope != nil {
		key.scope = config.Scope(r)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return &requestBodyError{err}
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	key.fingerprint = fingerprint(r, body)

	stored, locked, err := key.find(r.Context(), m)
	switch {
	case err != nil:
		return err
	case !locked:
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
		http.Error(w, "A request with this key is being served.", http.StatusConflict)
		return nil
	case stored != nil && !bytes.Equal(stored.fingerprint, key.fingerprint):
		http.Error(w, "This key was used for a different request.", http.StatusUnprocessableEntity)
		return nil
	case stored != nil:
		stored.replay(w)
		return nil
	}
	before := w.header.Clone()
	next.ServeHTTP(w, r)
	if w.streamed || w.status >= http.StatusBadRequest {
		return nil
	}
	return key.store(r.Context(), m, newStoredResponse(w, before), config.TTL)
}

func validKey(key string) bool {
	return key != "" && len(key) <= maxKey && !slices.ContainsFunc([]byte(key), func(c byte) bool { return c < ' ' || c > '~' })
}

// fingerprint identifies a request by its method, path, query and body.
func fingerprint(r *http.Request, body []byte) []byte {
	sum := sha256.New()
	_, _ = fmt.Fprintf(sum, "%s\n%q\n%q\n", r.Method, r.URL.Path, r.URL.RawQuery) // never fails
	_, _ = sum.Write(body)
	return sum.Sum(nil)
}

// idempotencyKey identifies one request.
type idempotencyKey struct {
	scope, key  string
	fingerprint []byte
}

// find returns the stored response, nil if there is none. locked is false if another transaction serves a request with this key.
func (k *idempotencyKey) find(ctx context.Context, m *Manager) (stored *storedResponse, locked bool, err error) {
	batch := &pgx.Batch{}
	// The statement that follows has a later snapshot, so it sees what the previous holder of the lock has committed.
	batch.Queue("select pg_try_advisory_xact_lock($1)", LockKey(fmt.Sprintf("rdsfx idempotency %q %q", k.scope, k.key))).
		QueryRow(func(row pgx.Row) error { return row.Scan(&locked) })
	batch.Queue(findResponse, k.scope, k.key).QueryRow(func(row pgx.Row) error {
		var found storedResponse
		err := row.Scan(&found.fingerprint, &found.status, &found.header, &found.body)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		stored = &found
		return err //nolint:wrapcheck // wrapped below
	})
	return stored, locked, keyError(m.SendBatch(ctx, batch).Close())
}

func (k *idempotencyKey) store(ctx context.Context, m *Manager, response *storedResponse, ttl time.Duration) error {
	tag, err := m.Exec(ctx, storeResponse, k.scope, k.key, k.fingerprint, response.status, response.header, response.body, ttl.Seconds())
	if err == nil && tag.RowsAffected() != 1 {
		err = errors.New("another transaction has stored a response with this key")
	}
	return keyError(err)
}

func keyError(err error) error {
	switch {
	case err == nil:
		return nil
	case sqlstate.Code(err) == sqlstate.UndefinedTable:
		return fmt.Errorf("txn: idempotency key: add the setup step IdempotencySetup, or IdempotencyTable to your migrations: %w", err)
	}
	return fmt.Errorf("txn: idempotency key: %w", err)
}

// storedResponse is a response with the fingerprint of its request.
type storedResponse struct {
	fingerprint []byte
	status      int
	header      json.RawMessage // http.Header
	body        []byte
}

// newStoredResponse returns the handler's response. before is the header before the handler ran, for example with the ID of the
// request, which belongs to no other.
func newStoredResponse(w *bufferedResponse, before http.Header) *storedResponse {
	header, status := w.sent, w.status
	if status == 0 {
		header, status = w.header, http.StatusOK
	}
	own := make(http.Header)
	for name, values := range header {
		if !slices.Equal(values, before[name]) {
			own[name] = values
		}
	}
	text, _ := json.Marshal(own) //nolint:errchkjson // a map of strings
	return &storedResponse{status: status, header: text, body: append([]byte{}, w.body.Bytes()...)}
}

func (s *storedResponse) replay(w *bufferedResponse) {
	var own http.Header
	_ = json.Unmarshal(s.header, &own) // written by newStoredResponse
	maps.Copy(w.header, own)
	w.header.Set(ReplayedHeader, "true")
	w.WriteHeader(s.status)
	_, _ = w.Write(s.body) // fails only if MaxResponse was lowered, which marks the response
}

// sweepIdempotencyKeys deletes responses that have expired, from time to time and in the background.
func (m *Manager) sweepIdempotencyKeys() {
	if !isDue(&m.keysSweptAt) {
		return
	}
	m.resolver.inBackground(func(ctx context.Context) {
		if _, err := m.pool.Exec(ctx, sweepKeys); err != nil && ctx.Err() == nil {
			m.logger.Warn("cannot delete expired idempotency keys", zap.Error(err))
		}
	})
}

package txn_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/txn"
)

// What docs/transactions.md shows.

// docs: join
type accounts struct{ tx *txn.Manager }

// add doesn't know whether it runs in a transaction.
func (a accounts) add(ctx context.Context, id string, amount int) error {
	_, err := a.tx.Exec(ctx, "update accounts set balance = balance + $2 where id = $1", id, amount)
	return err
}

func (a accounts) transfer(ctx context.Context, from, to string, amount int) error {
	return a.tx.Do(ctx, func(ctx context.Context) error {
		return errors.Join(a.add(ctx, to, amount), a.add(ctx, from, -amount))
	})
}

// docs: end

func guide(t *testing.T) (*txn.Manager, accounts) {
	t.Helper()
	tx := newManager(t, maxConns(2))
	_, err := tx.Exec(t.Context(), "create table accounts (id text primary key, balance int not null check (balance >= 0)); "+
		"create table orders (id int primary key, paid bool not null default false)")
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "insert into accounts values ('ann', 100), ('bob', 0)")
	require.NoError(t, err)
	return tx, accounts{tx}
}

func balance(t *testing.T, tx *txn.Manager, id string) (n int) {
	t.Helper()
	require.NoError(t, tx.QueryRow(t.Context(), "select balance from accounts where id = $1", id).Scan(&n))
	return n
}

func TestTheGuidesTransferIsAllOrNothing(t *testing.T) {
	t.Parallel()
	tx, a := guide(t)
	require.NoError(t, a.transfer(t.Context(), "ann", "bob", 70))
	require.ErrorContains(t, a.transfer(t.Context(), "ann", "bob", 70), "23514")
	assert.Equal(t, 70, balance(t, tx, "bob"))
}

func TestTheGuidesRetriedTransactionTellsWhenItIsCommitted(t *testing.T) {
	t.Parallel()
	tx, a := guide(t)
	ctx, told := t.Context(), 0
	notify := func(context.Context) { told++ }
	// docs: retry
	err := tx.Do(ctx, func(ctx context.Context) error {
		if err := a.add(ctx, "bob", 10); err != nil {
			return err
		}
		return txn.AfterCommit(ctx, func(ctx context.Context) { notify(ctx) }) // once, and not for attempts that failed
	}, txn.Serializable(), txn.Retry(pgfx.RetryPolicy{}), txn.Timeout(5*time.Second), txn.LockTimeout(time.Second))
	// docs: end
	require.NoError(t, err)
	assert.Equal(t, 1, told)
}

// errBusy is what the guide's client gets when nobody knows.
var errBusy = errors.New("look before doing it again")

func TestTheGuideTellsTheThreeEndsApart(t *testing.T) {
	t.Parallel()
	tx, a := guide(t)
	order := func(ctx context.Context, id int) error {
		// docs: outcome
		err := tx.Do(ctx, func(ctx context.Context) error {
			if _, err := tx.Exec(ctx, "insert into orders (id, paid) values ($1, true)", id); err != nil {
				return err
			}
			return a.add(ctx, "bob", 5)
		}, txn.ResolveCommit(txn.ByMarker))
		switch {
		case err == nil: // it is committed
		case errors.Is(err, txn.ErrOutcomeUnknown): // it may be committed
			return errBusy
		default: // it is not committed
			return err
		}
		// docs: end
		return nil
	}
	require.NoError(t, order(t.Context(), 1))
	require.ErrorContains(t, order(t.Context(), 1), "23505")
	assert.Equal(t, 5, balance(t, tx, "bob"))
}

func TestTheGuidesRequestIsATransaction(t *testing.T) {
	t.Parallel()
	tx, a := guide(t)
	// docs: http
	mux := http.NewServeMux()
	pay := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := a.add(r.Context(), "ann", -30); err != nil {
			http.Error(w, "not enough", http.StatusConflict) // which rolls back
			return
		}
		w.WriteHeader(http.StatusNoContent) // sent once the commit has succeeded
	})
	mux.Handle("POST /pay", tx.Middleware(txn.HTTPConfig{})(pay))
	// docs: end
	for _, status := range []int{204, 204, 204, 409} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/pay", strings.NewReader("")))
		assert.Equal(t, status, w.Code)
	}
	assert.Equal(t, 10, balance(t, tx, "ann"))
}

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

// The code between "docs" comments is shown in docs/transactions.md.

// docs: join
type accounts struct{ tx *txn.Manager }

// add works inside and outside a transaction.
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

func TestGuide_DatabaseSQLJoins(t *testing.T) {
	t.Parallel()
	tx, a := guide(t)
	ctx, id := t.Context(), 1
	// docs: sql
	db := tx.SQL() // give it to gorm.Open, bun.NewDB, sqlx.NewDb, entsql.OpenDB
	err := tx.Do(ctx, func(ctx context.Context) error {
		_, err := db.ExecContext(ctx, "insert into orders (id, paid) values ($1, false)", id)
		return errors.Join(err, a.add(ctx, "bob", 5)) // in the same transaction
	})
	// docs: end
	require.NoError(t, err)
	assert.Equal(t, 5, balance(t, tx, "bob"))
}

func balance(t *testing.T, tx *txn.Manager, id string) (n int) {
	t.Helper()
	require.NoError(t, tx.QueryRow(t.Context(), "select balance from accounts where id = $1", id).Scan(&n))
	return n
}

func TestGuide_TransferIsAtomic(t *testing.T) {
	t.Parallel()
	tx, a := guide(t)
	require.NoError(t, a.transfer(t.Context(), "ann", "bob", 70))
	require.ErrorContains(t, a.transfer(t.Context(), "ann", "bob", 70), "23514")
	assert.Equal(t, 70, balance(t, tx, "bob"))
}

func TestGuide_RetryNotifiesAfterCommit(t *testing.T) {
	t.Parallel()
	tx, a := guide(t)
	ctx, notified := t.Context(), 0
	notify := func(context.Context) { notified++ }
	// docs: retry
	err := tx.Do(ctx, func(ctx context.Context) error {
		if err := a.add(ctx, "bob", 10); err != nil {
			return err
		}
		return txn.AfterCommit(ctx, func(ctx context.Context) { notify(ctx) }) // once, not for failed attempts
	}, txn.Serializable(), txn.Retry(pgfx.RetryPolicy{}), txn.Timeout(5*time.Second), txn.LockTimeout(time.Second))
	// docs: end
	require.NoError(t, err)
	assert.Equal(t, 1, notified)
}

// errBusy is returned to the client of the guide if the outcome is unknown.
var errBusy = errors.New("check whether the order exists before you retry")

func TestGuide_DistinguishesOutcomes(t *testing.T) {
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
		case err == nil: // committed
		case errors.Is(err, txn.ErrOutcomeUnknown): // may be committed
			return errBusy
		default: // not committed
			return err
		}
		// docs: end
		return nil
	}
	require.NoError(t, order(t.Context(), 1))
	require.ErrorContains(t, order(t.Context(), 1), "23505")
	assert.Equal(t, 5, balance(t, tx, "bob"))
}

func TestGuide_RequestIsTransaction(t *testing.T) {
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

func TestGuide_OuterContext(t *testing.T) {
	t.Parallel()
	tx := managerOf(t, newDB(t), txn.WithContextCheck(txn.PoolUseInTxError))
	ctx := t.Context()
	// docs: outer context
	err := tx.Do(ctx, func(txCtx context.Context) error {
		if _, err := tx.Exec(txCtx, "insert into entries (name) values ('in the transaction')"); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "insert into entries (name) values ('not in it')") // needs txCtx
		return err
	})
	// docs: end
	require.ErrorIs(t, err, txn.ErrOuterContext)
}

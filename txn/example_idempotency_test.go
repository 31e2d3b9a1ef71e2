package txn_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
	"github.com/rdsfx-go/rdsfx/txn"
)

// docs: idempotency keys
func NewPayments(tx *txn.Manager) http.Handler {
	pay := func(w http.ResponseWriter, r *http.Request) {
		var order struct {
			Cents int `json:"cents"`
		}
		if err := json.NewDecoder(r.Body).Decode(&order); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		var id int64
		err := tx.QueryRow(r.Context(), "insert into payments (cents) values ($1) returning id", order.Cents).Scan(&id)
		if err != nil {
			w.WriteHeader(txn.ErrorStatus(err)) // nothing is stored, so a repeated request runs again
			return
		}
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(map[string]int64{"payment": id})
	}
	once := tx.Idempotent(txn.IdempotencyConfig{
		Scope: func(r *http.Request) string { return r.Header.Get("X-Client") }, // from your authentication
	})
	return once(http.HandlerFunc(pay))
}

// docs: end

func ExampleManager_Idempotent() {
	var payments http.Handler
	app := fx.New(
		fx.NopLogger,
		embedded.Module, // a local server
		rdsfx.Module,
		pgfx.ProvideSetup(
			pgfx.SetupSQL("create payments", `create table if not exists payments (
				id bigint generated always as identity primary key, cents int not null)`),
			txn.IdempotencySetup(),
		),
		fx.Provide(NewPayments),
		fx.Populate(&payments),
	)
	ctx, cancel := context.WithTimeout(context.Background(), app.StartTimeout())
	defer cancel()
	if err := app.Start(ctx); err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = app.Stop(ctx) }()
	pay := func(key, body string) {
		r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/payments", strings.NewReader(body))
		r.Header.Set("Idempotency-Key", key)
		w := httptest.NewRecorder()
		payments.ServeHTTP(w, r)
		fmt.Print(w.Code, " ", w.Body.String())
	}
	pay("7d793037", `{"cents": 1250}`)
	pay("7d793037", `{"cents": 1250}`) // again, because the first response was lost
	pay("7d793037", `{"cents": 9999}`)
	pay("a3c1f7e2", `{"cents": 1250}`)
	// Output:
	// 201 {"payment":1}
	// 201 {"payment":1}
	// 422 This key was used for a different request.
	// 201 {"payment":2}
}

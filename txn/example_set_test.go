package txn_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/jackc/pgx/v5"
	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
	"github.com/rdsfx-go/rdsfx/txn"
)

// docs: tenants
const notesTable = `create table if not exists notes (tenant text not null, body text not null);
	alter table notes enable row level security;
	alter table notes force row level security; -- for the owner of the table, too
	drop policy if exists own_rows on notes;
	create policy own_rows on notes using (tenant = nullif(current_setting('app.tenant', true), ''))`

func NewNotes(tx *txn.Manager) http.Handler {
	list := func(w http.ResponseWriter, r *http.Request) {
		rows, _ := tx.Query(r.Context(), "select body from notes order by body") // which the policy filters
		bodies, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			http.Error(w, "", txn.ErrorStatus(err))
			return
		}
		_ = json.NewEncoder(w).Encode(bodies)
	}
	perTenant := tx.Middleware(txn.HTTPConfig{RequestOptions: func(r *http.Request) ([]txn.Option, error) {
		tenant, ok := r.Context().Value(tenantKey{}).(string) // from your authentication
		if !ok {
			return nil, errors.New("the request has no tenant")
		}
		return []txn.Option{txn.Set("app.tenant", tenant)}, nil
	}})
	return perTenant(http.HandlerFunc(list))
}

// docs: end

type tenantKey struct{}

// notesRole is the role of an application. The user of an embedded server is a superuser, to whom no policy applies.
const notesRole = `do $$ begin create role notes_app; exception when duplicate_object then null; end $$;
	grant select, insert on notes to notes_app`

func ExampleSet() {
	var (
		tx    *txn.Manager
		notes http.Handler
	)
	app := fx.New(
		fx.NopLogger,
		embedded.Module, // a local server
		rdsfx.Module,
		pgfx.ProvideSetup(pgfx.SetupSQL("create notes", notesTable+";"+notesRole)),
		txn.ProvideOptions(txn.WithDefaults(txn.Set("role", "notes_app"))),
		fx.Provide(NewNotes),
		fx.Populate(&tx, &notes),
	)
	ctx, cancel := context.WithTimeout(context.Background(), app.StartTimeout())
	defer cancel()
	if err := app.Start(ctx); err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = app.Stop(ctx) }()

	for _, tenant := range []string{"ann", "bob"} {
		err := tx.Do(ctx, func(ctx context.Context) error {
			_, err := tx.Exec(ctx, "insert into notes values ($1, $2)", tenant, "a note of "+tenant)
			return err
		}, txn.Set("app.tenant", tenant))
		if err != nil {
			fmt.Println(err)
			return
		}
	}
	for _, tenant := range []any{"ann", "bob", nil} {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(context.WithValue(ctx, tenantKey{}, tenant), http.MethodGet, "/notes", http.NoBody)
		notes.ServeHTTP(w, r)
		fmt.Print(w.Code, " ", w.Body.String())
	}
	// Output:
	// 200 ["a note of ann"]
	// 200 ["a note of bob"]
	// 500 Internal Server Error
}

package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"go.uber.org/fx"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

//go:embed openapi.yaml
var openAPI []byte

// API serves the HTTP endpoints. Each request under /v1 runs in one transaction, as the tenant of the request.
type API struct {
	users     *Users
	jobs      *Jobs
	files     *Files
	tx        *txn.Manager
	bun       *bun.DB // joins the transactions of tx
	reporting *txn.Manager
	logger    *zap.Logger
}

// Dependencies are the parameters of NewAPI.
type Dependencies struct {
	fx.In

	Users     *Users
	Jobs      *Jobs
	Files     *Files
	Tx        *txn.Manager
	Reporting *txn.Manager `name:"reporting"`
	Logger    *zap.Logger
}

// NewAPI is called by Fx.
func NewAPI(d Dependencies) *API {
	return &API{
		users: d.Users, jobs: d.Jobs, files: d.Files, tx: d.Tx, bun: bun.NewDB(d.Tx.SQL(), pgdialect.New()),
		reporting: d.Reporting, logger: d.Logger.Named("api"),
	}
}

// NewHandler returns the handler of all requests. It is called by Fx.
func NewHandler(a *API, monitor *health.Monitor, metrics *prometheus.Registry) http.Handler {
	v1 := http.NewServeMux()
	for pattern, handler := range a.routes() {
		v1.Handle(pattern, a.respond(handler))
	}
	inTransaction := a.tx.Middleware(txn.HTTPConfig{
		RequestOptions: func(r *http.Request) ([]txn.Option, error) { return asTenant(r.Context()), nil },
		OnError:        a.respondWithError,
	})

	mux := http.NewServeMux()
	mux.Handle("/v1/", a.authenticate(inTransaction(v1)))
	mux.Handle("GET /v1/report", a.authenticate(a.respond(a.report))) // in a transaction of the reporting database
	mux.Handle("/internal/", health.NewHandler(monitor))
	mux.Handle("GET /internal/metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /openapi.yaml", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/yaml")
		_, _ = w.Write(openAPI) // the client is gone
	})
	return mux
}

// handler returns a status and a value that is sent as JSON, or an error.
type handler func(w http.ResponseWriter, r *http.Request) (status int, body any, err error)

func (a *API) routes() map[string]handler {
	return map[string]handler{
		"PUT /v1/users/{clerk_user_id}": a.putUser,
		"GET /v1/users":                 a.listUsers,
		"GET /v1/users/{id}":            a.getUser,
		"PATCH /v1/users/{id}":          a.changeUser,
		"DELETE /v1/users/{id}":         a.deleteUser,
		"POST /v1/jobs":                 a.createJob,
		"GET /v1/jobs":                  a.listJobs,
		"GET /v1/jobs/{id}":             a.getJob,
		"PUT /v1/jobs/{id}":             a.changeJob,
		"POST /v1/jobs/{id}/cancel":     a.cancelJob,
		"POST /v1/jobs/{id}/files":      a.addFile,
		"GET /v1/jobs/{id}/files":       a.listFiles,
		"GET /v1/stats":                 a.stats,
	}
}

// respond sends the result of a handler. A status of 400 and above makes the middleware roll back.
func (a *API) respond(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, body, err := h(w, r)
		if err != nil {
			a.respondWithError(w, r, err)
			return
		}
		if body == nil {
			w.WriteHeader(status)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		if err := json.NewEncoder(w).Encode(body); err != nil {
			a.logger.Info("response not sent", zap.Error(err))
		}
	})
}

type tenantKey struct{}

// authenticate puts the tenant of a request into its context. A real service takes it from the token of the user.
func (a *API) authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tenant := r.Header.Get("X-Tenant")
		if tenant == "" {
			a.respondWithError(w, r, &requestError{http.StatusUnauthorized, "the header X-Tenant is missing"})
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), tenantKey{}, tenant)))
	})
}

// asTenant returns the options of a transaction that sees the rows of the tenant only.
func asTenant(ctx context.Context) []txn.Option {
	tenant, _ := ctx.Value(tenantKey{}).(string)
	return []txn.Option{txn.Set("role", "jobservice_tenant"), txn.Set("app.tenant", tenant)}
}

// decode reads the body of a request.
func decode(r *http.Request, into any) error {
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return &requestError{http.StatusBadRequest, fmt.Sprintf("the body is not as described: %v", err)}
	}
	return nil
}

// pathID returns the ID in the path. An ID that is no UUID belongs to no row.
func pathID(r *http.Request) (uuid.UUID, error) {
	id, err := uuid.Parse(r.PathValue("id"))
	if err != nil {
		return uuid.Nil, repo.ErrNotFound
	}
	return id, nil
}

// page is a part of a list.
type page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty"` // the parameter cursor of the next page
}

// docs: page

// listPage returns the page that the parameters cursor and limit select.
func listPage[T any](r *http.Request, rows *repo.Repository[T, uuid.UUID], opts ...repo.QueryOption) (status int, body any, err error) {
	limit := 50
	if text := r.FormValue("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > 200 {
			return 0, nil, &requestError{http.StatusBadRequest, "limit must be 1 to 200"}
		}
	}
	found, err := rows.Page(r.Context(), r.FormValue("cursor"), limit, opts...)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, page[T]{found.Rows, found.Next}, nil
}

// docs: end

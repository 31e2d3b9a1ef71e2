package jobservice_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/mail"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rdsfx-go/rdsfx/fxtest"
)

// serviceEnv is a variable with which the test's executable is one of the services of openers. Its address and its database are
// in ADDR and DATABASE_URL, as for the job service.
const serviceEnv = "RDSFX_BENCH_SERVICE"

// poolSize is the number of connections of each service.
const poolSize = 10

func TestMain(m *testing.M) {
	name := os.Getenv(serviceEnv)
	if name == "" {
		fxtest.Main(m)
		return
	}
	if err := serve(name, os.Getenv("ADDR"), os.Getenv("DATABASE_URL")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// openers are the services beside rdsfx's.
var openers = map[string]func(ctx context.Context, url string) (store, error){"pgx": openPlain, "GORM": openGORM}

// serve runs a service until Ctrl-C.
func serve(name, addr, url string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	jobs, err := openers[name](ctx, url)
	if err != nil {
		return err
	}
	defer jobs.close()
	server := &http.Server{Addr: addr, Handler: newHandler(jobs), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Shutdown(context.WithoutCancel(ctx)) })
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// store is the part of a service that differs. Each call is a transaction that sees the rows of the tenant only.
type store interface { //nolint:interfacebloat // a method for each endpoint
	putUser(ctx context.Context, tenant string, user *User) (created bool, err error)
	// createJob queues a job and notifies the workers. If the job exists, it is read into job.
	createJob(ctx context.Context, tenant string, job *Job) (created bool, err error)
	getJob(ctx context.Context, tenant string, id uuid.UUID) (*Job, error)
	// listJobs returns the newest jobs that are older than the position.
	listJobs(ctx context.Context, tenant string, after *position, limit int) ([]Job, error)
	changeJob(ctx context.Context, tenant string, id uuid.UUID, version int32, configuration Configuration) (*Job, error)
	close()
}

// User and Job are the rows, in the form of the responses. The tags are GORM's.
type (
	User struct {
		ID          uuid.UUID  `gorm:"default:gen_random_uuid()" json:"id"`
		ClerkUserID string     `json:"clerk_user_id"`
		Email       string     `json:"email"`
		Username    string     `json:"username"`
		Status      string     `gorm:"default:active"            json:"status"`
		CreatedAt   time.Time  `json:"created_at"`
		UpdatedAt   time.Time  `json:"updated_at"`
		DeletedAt   *time.Time `json:"-"`
	}
	Job struct {
		ID            uuid.UUID      `gorm:"default:gen_random_uuid()" json:"id"`
		UserID        uuid.UUID      `json:"user_id"`
		Status        string         `gorm:"default:queued"            json:"status"`
		Configuration Configuration  `gorm:"serializer:json"           json:"configuration"`
		Result        map[string]any `gorm:"serializer:json"           json:"result,omitempty"`
		Error         *string        `json:"error,omitempty"`
		Attempts      int32          `json:"attempts"`
		Progress      int32          `json:"progress"`
		Version       int32          `json:"version"`
		RunAfter      time.Time      `gorm:"default:now()"             json:"run_after"`
		CreatedAt     time.Time      `json:"created_at"`
		UpdatedAt     time.Time      `json:"updated_at"`
		FinishedAt    *time.Time     `json:"finished_at,omitempty"`
	}
	Configuration struct {
		Topic    string `json:"topic"`
		Sections int    `json:"sections"`
	}
)

func (u *User) valid() bool {
	_, err := mail.ParseAddress(u.Email)
	return err == nil && u.Username != "" && len(u.Username) <= 40
}

func (c Configuration) valid() bool {
	return strings.TrimSpace(c.Topic) != "" && c.Sections >= 1 && c.Sections <= 100
}

// setTenant sets the role and the tenant of a transaction, for row-level security.
const setTenant = "select set_config('role', 'jobservice_tenant', true), set_config('app.tenant', $1, true)"

// The errors of a store. Others are those of the driver.
var (
	errNotFound = errors.New("not found")
	errConflict = errors.New("the state does not permit this")
	errStale    = errors.New("another version")
)

// statusError is a request that can't be served as it is.
type statusError int

func (s statusError) Error() string { return http.StatusText(int(s)) }

// newHandler returns the endpoints of the job service that the benchmark measures.
func newHandler(jobs store) http.Handler {
	mux := http.NewServeMux()
	for pattern, handle := range map[string]func(r *http.Request, tenant string) (int, any, error){
		"PUT /v1/users/{clerk_user_id}": func(r *http.Request, tenant string) (int, any, error) {
			user := &User{ClerkUserID: r.PathValue("clerk_user_id")}
			if err := decode(r, user); err != nil {
				return 0, nil, err
			}
			if !user.valid() {
				return 0, nil, statusError(http.StatusUnprocessableEntity)
			}
			created, err := jobs.putUser(r.Context(), tenant, user)
			return okOrCreated(created), user, err
		},
		"POST /v1/jobs": func(r *http.Request, tenant string) (int, any, error) {
			job := new(Job)
			if err := decode(r, job); err != nil {
				return 0, nil, err
			}
			if !job.Configuration.valid() {
				return 0, nil, statusError(http.StatusUnprocessableEntity)
			}
			created, err := jobs.createJob(r.Context(), tenant, job)
			return okOrCreated(created), job, err
		},
		"GET /v1/jobs/{id}": func(r *http.Request, tenant string) (int, any, error) {
			id, err := uuid.Parse(r.PathValue("id"))
			if err != nil {
				return 0, nil, errNotFound
			}
			job, err := jobs.getJob(r.Context(), tenant, id)
			return http.StatusOK, job, err
		},
		"GET /v1/jobs": func(r *http.Request, tenant string) (int, any, error) {
			return list(r, tenant, jobs)
		},
		"PUT /v1/jobs/{id}": func(r *http.Request, tenant string) (int, any, error) {
			job := new(Job)
			if err := decode(r, job); err != nil {
				return 0, nil, err
			}
			version, err := strconv.ParseInt(strings.Trim(r.Header.Get("If-Match"), `"`), 10, 32)
			if err != nil {
				return 0, nil, statusError(http.StatusPreconditionRequired)
			}
			id, err := uuid.Parse(r.PathValue("id"))
			if err != nil {
				return 0, nil, errNotFound
			}
			if !job.Configuration.valid() {
				return 0, nil, statusError(http.StatusUnprocessableEntity)
			}
			job, err = jobs.changeJob(r.Context(), tenant, id, int32(version), job.Configuration)
			return http.StatusOK, job, err
		},
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			tenant := r.Header.Get("X-Tenant")
			if tenant == "" {
				respond(w, http.StatusUnauthorized, nil)
				return
			}
			status, body, err := handle(r, tenant)
			if err != nil {
				respond(w, statusOf(err), nil)
				return
			}
			respond(w, status, body)
		})
	}
	return mux
}

func okOrCreated(created bool) int {
	if created {
		return http.StatusCreated
	}
	return http.StatusOK
}

func decode(r *http.Request, into any) error {
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if decoder.Decode(into) != nil {
		return statusError(http.StatusBadRequest)
	}
	return nil
}

func statusOf(err error) int {
	if status, ok := errors.AsType[statusError](err); ok {
		return int(status)
	}
	refused, ok := errors.AsType[*pgconn.PgError](err)
	_, away := errors.AsType[*pgconn.ConnectError](err)
	switch {
	case errors.Is(err, errNotFound):
		return http.StatusNotFound
	case errors.Is(err, errStale):
		return http.StatusPreconditionFailed
	case errors.Is(err, errConflict), ok && refused.Code == "23505":
		return http.StatusConflict
	case ok && strings.HasPrefix(refused.Code, "23"):
		return http.StatusUnprocessableEntity
	case away:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

func respond(w http.ResponseWriter, status int, body any) {
	if body == nil {
		w.Header().Set("Content-Type", "application/problem+json")
		body = map[string]any{"status": status, "title": http.StatusText(status)}
	} else {
		w.Header().Set("Content-Type", "application/json")
	}
	if job, ok := body.(*Job); ok {
		w.Header().Set("ETag", fmt.Sprintf(`"%d"`, job.Version))
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client is gone
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"io/fs"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	"go.yaml.in/yaml/v3"

	"github.com/rdsfx-go/rdsfx/examples/internal/guiderun"
	"github.com/rdsfx-go/rdsfx/fxtest"
)

// asService is a variable with which the test's executable is the service.
const asService = "JOBSERVICE_TEST_RUN"

func TestMain(m *testing.M) {
	if os.Getenv(asService) != "" {
		main()
		return
	}
	fxtest.Main(m)
}

// TestReadme_RunsAsWritten runs the commands of README.md, which start the service.
func TestReadme_RunsAsWritten(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it builds the service")
	}
	guiderun.Follow(t, "README.md", guiderun.NewShell(t, "../..", "../.."))
}

// service is the running service and a client of it.
type service struct {
	t      *testing.T
	url    string
	tenant string
	app    *fxtest.App
}

// start starts the service on a fresh database. Options replace parts of it.
func start(t *testing.T, config Config, opts ...fxtest.Option) *service {
	t.Helper()
	config.Addr = "127.0.0.1:0"
	s := &service{t: t, tenant: "acme"}
	var server *Server
	s.app = fxtest.New(t, append(opts, fxtest.Logger(t), fxtest.Fx(serviceModule(config), fx.Populate(&server)))...)
	t.Cleanup(http.DefaultClient.CloseIdleConnections) // before the server stops
	s.url = server.URL()
	return s
}

// quick is a configuration whose workers need no patience.
func quick() Config {
	config := defaultConfig()
	config.Workers.Poll, config.Workers.Backoff = 20*time.Millisecond, 10*time.Millisecond
	return config
}

// request sends a request and returns its response with the body read.
func (s *service) request(method, path string, body any, headers ...string) (status int, text string, header http.Header) {
	s.t.Helper()
	document, err := json.Marshal(body)
	require.NoError(s.t, err)
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, bytes.NewReader(document))
	require.NoError(s.t, err)
	if s.tenant != "" {
		r.Header.Set("X-Tenant", s.tenant)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(r)
	require.NoError(s.t, err)
	defer func() { require.NoError(s.t, response.Body.Close()) }()
	content, err := io.ReadAll(response.Body)
	require.NoError(s.t, err)
	return response.StatusCode, string(content), response.Header
}

// send sends a request, requires its status and decodes the response.
func send[T any](s *service, want int, method, path string, body any, headers ...string) T {
	s.t.Helper()
	status, text, _ := s.request(method, path, body, headers...)
	require.Equal(s.t, want, status, "%s %s: %s", method, path, text)
	var value T
	if text != "" {
		require.NoError(s.t, json.Unmarshal([]byte(text), &value), text)
	}
	return value
}

func (s *service) user(name string) User {
	s.t.Helper()
	return send[User](s, http.StatusCreated, "PUT", "/v1/users/"+name, map[string]string{"email": name + "@example.com", "username": name})
}

func (s *service) job(user User, sections int) Job {
	s.t.Helper()
	return send[Job](s, http.StatusCreated, "POST", "/v1/jobs",
		map[string]any{"user_id": user.ID, "configuration": Configuration{Topic: "go", Sections: sections}})
}

// finished waits until a job has ended.
func (s *service) finished(job Job) Job {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		job = send[Job](s, http.StatusOK, "GET", "/v1/jobs/"+job.ID.String(), nil)
		return job.FinishedAt != nil
	}, time.Minute, 5*time.Millisecond, "%+v", job)
	return job
}

func TestUsers_UpsertListRenameDelete(t *testing.T) {
	t.Parallel()
	config := quick()
	config.Workers.Count = 0
	s := start(t, config)
	ada := s.user("ada")
	again := send[User](s, http.StatusOK, "PUT", "/v1/users/ada", map[string]string{"email": "ada@example.org", "username": "ada"})
	assert.Equal(t, ada.ID, again.ID)
	s.user("bob")
	s.user("eve")

	first := send[page[User]](s, http.StatusOK, "GET", "/v1/users?limit=2", nil)
	second := send[page[User]](s, http.StatusOK, "GET", "/v1/users?limit=2&cursor="+first.Next, nil)
	names := []string{first.Items[0].Username, first.Items[1].Username, second.Items[0].Username}
	assert.Equal(t, []string{"eve", "bob", "ada"}, names)
	assert.Empty(t, second.Next)

	renamed := send[User](s, http.StatusOK, "PATCH", "/v1/users/"+ada.ID.String(), map[string]string{"username": "lovelace"})
	assert.Equal(t, "lovelace", renamed.Username)
	send[any](s, http.StatusNoContent, "DELETE", "/v1/users/"+ada.ID.String(), nil)
	send[problem](s, http.StatusNotFound, "GET", "/v1/users/"+ada.ID.String(), nil)
	send[problem](s, http.StatusNotFound, "POST", "/v1/jobs", map[string]any{"user_id": ada.ID, "configuration": Configuration{"go", 1}})
}

func TestUsers_SuspendedOnesCreateNoJobs(t *testing.T) {
	t.Parallel()
	config := quick()
	config.Workers.Count = 0
	s := start(t, config)
	ada, bob := s.user("ada"), s.user("bob")
	assert.Equal(t, Active, ada.Status)
	suspended := send[User](s, http.StatusOK, "PATCH", "/v1/users/"+ada.ID.String(), map[string]any{"status": Suspended})
	assert.Equal(t, "ada", suspended.Username)
	again := send[User](s, http.StatusOK, "PUT", "/v1/users/ada", map[string]string{"email": "ada@example.com", "username": "ada"})
	assert.Equal(t, Suspended, again.Status, "the identity provider does not change it")

	refused := send[problem](s, http.StatusConflict, "POST", "/v1/jobs",
		map[string]any{"user_id": ada.ID, "configuration": Configuration{"go", 1}})
	assert.Equal(t, "the user is suspended", refused.Detail)
	active := send[page[User]](s, http.StatusOK, "GET", "/v1/users?status=active", nil).Items
	require.Len(t, active, 1)
	assert.Equal(t, bob.ID, active[0].ID)
	send[problem](s, http.StatusUnprocessableEntity, "PATCH", "/v1/users/"+bob.ID.String(), map[string]any{"status": "gone"})
}

func TestErrors_HaveTheirStatus(t *testing.T) {
	t.Parallel()
	config := quick()
	config.Workers.Count = 0 // jobs stay queued
	s := start(t, config)
	ada := s.user("ada")
	job := s.job(ada, 3)
	path := "/v1/jobs/" + job.ID.String()
	change := map[string]any{"configuration": Configuration{"rust", 2}}

	invalid := send[problem](s, http.StatusUnprocessableEntity, "PUT", "/v1/users/x", map[string]string{"email": "nonsense"})
	assert.Contains(t, invalid.Detail, "email: is not an address")
	assert.Contains(t, invalid.Detail, "username: needs 1 to 40 characters")
	taken := send[problem](s, http.StatusConflict, "PUT", "/v1/users/x", map[string]string{"email": "ADA@example.com", "username": "x"})
	assert.Equal(t, "users_email", taken.Detail)
	send[problem](s, http.StatusBadRequest, "PUT", "/v1/users/x", map[string]string{"mail": "x"})
	send[problem](s, http.StatusBadRequest, "GET", "/v1/jobs?cursor=nonsense", nil)
	send[problem](s, http.StatusBadRequest, "GET", "/v1/jobs?limit=0", nil)
	send[problem](s, http.StatusBadRequest, "GET", "/v1/jobs?status=nonsense", nil)
	send[problem](s, http.StatusBadRequest, "GET", "/v1/jobs?user_id=nonsense", nil)
	send[problem](s, http.StatusNotFound, "GET", "/v1/jobs/nonsense", nil)
	send[problem](s, http.StatusPreconditionRequired, "PUT", path, change)
	send[problem](s, http.StatusPreconditionFailed, "PUT", path, change, "If-Match", `"7"`)
	changed := send[Job](s, http.StatusOK, "PUT", path, change, "If-Match", `"1"`)
	assert.Equal(t, Configuration{"rust", 2}, changed.Configuration)
	assert.Equal(t, int32(2), changed.Version)

	file := map[string]any{"name": "a.txt", "size": 3, "checksum": make([]byte, 32), "storage_key": "s3://b/a", "content_type": "text/plain"}
	send[FileMetadata](s, http.StatusCreated, "POST", path+"/files", file)
	send[problem](s, http.StatusConflict, "POST", path+"/files", file) // the storage key is taken
	file["storage_key"], file["size"] = "s3://b/b", -1
	send[problem](s, http.StatusUnprocessableEntity, "POST", path+"/files", file)
	assert.Len(t, send[page[FileMetadata]](s, http.StatusOK, "GET", path+"/files", nil).Items, 1)

	cancelled := send[Job](s, http.StatusOK, "POST", path+"/cancel", nil)
	assert.Equal(t, Cancelled, cancelled.Status)
	send[problem](s, http.StatusConflict, "POST", path+"/cancel", nil)
	send[problem](s, http.StatusConflict, "PUT", path, change, "If-Match", `"3"`)
	assert.Equal(t, []statusCount{{Cancelled, 1}}, send[[]statusCount](s, http.StatusOK, "GET", "/v1/stats", nil))

	s.tenant = ""
	send[problem](s, http.StatusUnauthorized, "GET", "/v1/jobs", nil)
}

func TestTenants_SeeTheirOwnRows(t *testing.T) {
	t.Parallel()
	config := quick()
	config.Workers.Count = 0
	s := start(t, config)
	ada := s.user("ada")
	job := s.job(ada, 1)

	s.tenant = "other"
	send[problem](s, http.StatusNotFound, "GET", "/v1/users/"+ada.ID.String(), nil)
	send[problem](s, http.StatusNotFound, "POST", "/v1/jobs/"+job.ID.String()+"/cancel", nil)
	send[problem](s, http.StatusNotFound, "POST", "/v1/jobs", map[string]any{"user_id": ada.ID, "configuration": Configuration{"go", 1}})
	assert.Empty(t, send[page[Job]](s, http.StatusOK, "GET", "/v1/jobs", nil).Items)
	assert.Empty(t, send[[]reportRow](s, http.StatusOK, "GET", "/v1/report", nil))
	assert.Empty(t, send[[]statusCount](s, http.StatusOK, "GET", "/v1/stats", nil), "bun is in the tenant's transaction, too")
	s.user("ada") // the same identity in another tenant
}

func TestReport_ReadsTheReportingDatabase(t *testing.T) {
	t.Parallel()
	config := quick()
	config.Workers.Count = 0
	s := start(t, config)
	s.job(s.user("ada"), 1)
	assert.Len(t, send[[]reportRow](s, http.StatusOK, "GET", "/v1/report", nil), 1)

	config.Reporting = "postgres://replaced by fxtest"
	s = start(t, config, fxtest.ForDatabase("reporting", fxtest.Migrations(migrationFiles(t))))
	s.job(s.user("ada"), 1)
	assert.Empty(t, send[[]reportRow](s, http.StatusOK, "GET", "/v1/report", nil), "nothing is replicated")
	_, metrics, _ := s.request("GET", "/internal/metrics", nil)
	assert.Contains(t, metrics, `db_client_connection_pool_name="reporting"`)
}

func TestCreateJob_WithIDIsIdempotent(t *testing.T) {
	t.Parallel()
	config := quick()
	config.Workers.Count = 0
	s := start(t, config)
	input := map[string]any{
		"id": "0197a2f0-0000-7000-8000-000000000001", "user_id": s.user("ada").ID, "configuration": Configuration{"go", 1},
	}
	send[Job](s, http.StatusCreated, "POST", "/v1/jobs", input)
	send[Job](s, http.StatusOK, "POST", "/v1/jobs", input)
	assert.Len(t, send[page[Job]](s, http.StatusOK, "GET", "/v1/jobs", nil).Items, 1)

	s.tenant = "other"
	input["user_id"] = s.user("bob").ID
	taken := send[problem](s, http.StatusConflict, "POST", "/v1/jobs", input)
	assert.Empty(t, taken.Detail, "it belongs to a row that this tenant can't see")
}

func TestWorkers_RunJobsAndRetryFailures(t *testing.T) {
	t.Parallel()
	failures := errors.New("the model is overloaded")
	s := start(t, quick(), fxtest.Fx(fx.Replace(Work(func(ctx context.Context, job *Job, progress func(int) error) (any, error) {
		if job.Configuration.Topic == "go" && job.Attempts < 3 || job.Configuration.Topic == "never" {
			return nil, failures
		}
		return writeSections(ctx, job, progress)
	}))))
	ada := s.user("ada")
	done := s.finished(s.job(ada, 2))
	assert.Equal(t, Succeeded, done.Status)
	assert.Equal(t, int32(3), done.Attempts)
	assert.Equal(t, int32(100), done.Progress)
	assert.JSONEq(t, `{"sections": 2, "words": 204}`, string(done.Result))

	never := send[Job](s, http.StatusCreated, "POST", "/v1/jobs",
		map[string]any{"user_id": ada.ID, "configuration": Configuration{"never", 1}})
	never = s.finished(never)
	assert.Equal(t, Failed, never.Status)
	assert.Equal(t, int32(5), never.Attempts)
	assert.Equal(t, failures.Error(), *never.Error)
}

func TestWorkers_ClaimTheJobOfADeadWorker(t *testing.T) {
	t.Parallel()
	config := quick()
	config.Workers.Lease = 200 * time.Millisecond
	release := make(chan struct{})
	late := make(chan error, 1)
	s := start(t, config, fxtest.Fx(fx.Replace(Work(func(ctx context.Context, job *Job, progress func(int) error) (any, error) {
		if job.Attempts == 1 { // it hangs beyond its lease, then goes on
			<-release
			err := progress(50)
			late <- err
			return nil, err
		}
		return writeSections(ctx, job, progress)
	}))))
	done := s.finished(s.job(s.user("ada"), 1))
	close(release)
	assert.Equal(t, int32(2), done.Attempts)
	require.ErrorIs(t, <-late, errJobLost, "the first attempt can't change the job any more")
	assert.Equal(t, Succeeded, send[Job](s, http.StatusOK, "GET", "/v1/jobs/"+done.ID.String(), nil).Status)
}

func TestWorkers_AreWokenByNotifications(t *testing.T) {
	t.Parallel()
	config := quick()
	config.Workers.Poll = time.Hour
	s := start(t, config)
	ada := s.user("ada")
	for range 3 {
		assert.Equal(t, Succeeded, s.finished(s.job(ada, 1)).Status)
	}
}

func TestCleanup_RemovesOldRowsOnly(t *testing.T) {
	t.Parallel()
	config := quick()
	config.Cleanup = CleanupConfig{Every: 10 * time.Millisecond, Keep: time.Hour}
	s := start(t, config)
	ada, bob := s.user("ada"), s.user("bob")
	old, recent := s.finished(s.job(ada, 1)), s.finished(s.job(bob, 1))
	for _, user := range []User{ada, bob} {
		send[any](s, http.StatusNoContent, "DELETE", "/v1/users/"+user.ID.String(), nil)
	}
	_, err := s.app.Pool.Exec(t.Context(), "update jobs set finished_at = now() - interval '2 hours' where id = $1", old.ID)
	require.NoError(t, err)
	_, err = s.app.Pool.Exec(t.Context(), "update users set deleted_at = now() - interval '2 hours'")
	require.NoError(t, err)

	require.Eventually(t, func() bool {
		var users, jobs int
		err := s.app.Pool.QueryRow(t.Context(), "select (select count(*) from users), (select count(*) from jobs)").Scan(&users, &jobs)
		return err == nil && users == 1 && jobs == 1
	}, time.Minute, 5*time.Millisecond)
	send[Job](s, http.StatusOK, "GET", "/v1/jobs/"+recent.ID.String(), nil) // and its user stays
}

func TestOpenAPI_DescribesEveryRoute(t *testing.T) {
	t.Parallel()
	var document struct {
		Paths map[string]map[string]any `yaml:"paths"`
	}
	require.NoError(t, yaml.Unmarshal(openAPI, &document))
	var described []string
	for path, operations := range document.Paths {
		for operation := range operations {
			if operation != "parameters" {
				described = append(described, strings.ToUpper(operation)+" "+path)
			}
		}
	}
	routes := []string{"GET /v1/report"}
	for pattern := range new(API).routes() {
		routes = append(routes, pattern)
	}
	assert.ElementsMatch(t, routes, described)
	for _, reference := range regexp.MustCompile(`'#/([^']+)'`).FindAllSubmatch(openAPI, -1) {
		var node map[string]any
		require.NoError(t, yaml.Unmarshal(openAPI, &node))
		for part := range strings.SplitSeq(string(reference[1]), "/") {
			next, ok := node[part]
			require.True(t, ok, "%s does not exist", reference[0])
			node, _ = next.(map[string]any)
		}
	}
}

func TestConfig_HelpAndMistakes(t *testing.T) {
	t.Parallel()
	var help bytes.Buffer
	_, err := readConfig([]string{"-help"}, &help)
	require.Error(t, err)
	assert.Contains(t, help.String(), "DATABASE_URL")
	_, err = readConfig([]string{"now"}, io.Discard)
	require.EqualError(t, err, "unexpected arguments: now")
	_, err = readConfig([]string{"-config", "absent.yaml"}, io.Discard)
	require.ErrorContains(t, err, "absent.yaml")
	config, err := readConfig([]string{"-config", "config.yaml", "-addr", "127.0.0.1:1"}, io.Discard)
	require.NoError(t, err)
	want := defaultConfig()
	assert.Equal(t, want.Workers, config.Workers, "the file shows the defaults")
	assert.Equal(t, "127.0.0.1:1", config.Addr)
	assert.Equal(t, 10*time.Second, config.Database.Timeouts.Statement)
}

func TestConfig_ReadsVariables(t *testing.T) {
	var help bytes.Buffer
	_, err := readConfig([]string{"-help"}, &help)
	require.ErrorIs(t, err, flag.ErrHelp)
	params, err := env.GetFieldParams(&Config{})
	require.NoError(t, err)
	for _, param := range params {
		if !param.Ignored {
			assert.Contains(t, help.String(), "\n  "+param.Key+" ")
		}
	}
	t.Setenv("ADDR", "127.0.0.1:2")
	t.Setenv("WORKERS_COUNT", "0")
	t.Setenv("CLEANUP_KEEP", "1h")
	config, err := readConfig([]string{"-config", "config.yaml"}, io.Discard)
	require.NoError(t, err)
	assert.Equal(t, "127.0.0.1:2", config.Addr)
	assert.Zero(t, config.Workers.Count)
	assert.Equal(t, time.Hour, config.Cleanup.Keep)
	assert.Equal(t, defaultConfig().Workers.Lease, config.Workers.Lease)
	config, err = readConfig([]string{"-addr", "127.0.0.1:3"}, io.Discard)
	require.NoError(t, err)
	assert.Equal(t, "127.0.0.1:3", config.Addr)
	t.Setenv("WORKERS_LEASE", "soon")
	_, err = readConfig(nil, io.Discard)
	require.ErrorContains(t, err, "Lease")
}

func migrationFiles(t *testing.T) fs.FS {
	t.Helper()
	files, err := fs.Sub(migrations, "migrations")
	require.NoError(t, err)
	return files
}

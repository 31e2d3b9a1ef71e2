package main

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/fxtest/faults"
)

// A client that repeats its requests until they succeed creates each job once, although the database goes away meanwhile.
func TestService_SurvivesAnOutage(t *testing.T) {
	t.Parallel()
	const jobs = 40
	proxy := faults.NewProxy(t, fxtest.URL(t))
	s := start(t, quick(), fxtest.At(proxy.URL()))
	ada := s.user("ada")

	refused := 0
	for i := range jobs {
		if i == jobs/2 {
			proxy.RefuseNew()
			proxy.ResetConnections()
		}
		input := map[string]any{"id": uuid.New(), "user_id": ada.ID, "configuration": Configuration{"go", 1}}
		for status := 0; status != http.StatusCreated && status != http.StatusOK; {
			var text string
			var header http.Header
			if status, text, header = s.request("POST", "/v1/jobs", input); status >= http.StatusBadRequest {
				require.Equal(t, http.StatusServiceUnavailable, status, text)
				require.Equal(t, "1", header.Get("Retry-After"))
				refused++
				alive, _, _ := s.request("GET", "/internal/livez", nil)
				require.Equal(t, http.StatusOK, alive, "an outage is no reason to restart")
				proxy.Heal()
			}
		}
	}
	assert.Positive(t, refused)
	var stored int
	require.NoError(t, s.app.Pool.QueryRow(t.Context(), "select count(*) from jobs").Scan(&stored))
	assert.Equal(t, jobs, stored)
	require.Eventually(t, func() bool {
		counts := send[[]statusCount](s, http.StatusOK, "GET", "/v1/stats", nil)
		return len(counts) == 1 && counts[0] == statusCount{Succeeded, jobs}
	}, time.Minute, 5*time.Millisecond, "the workers go on")
}

func TestStop_FinishesRequestsAndReturnsJobs(t *testing.T) {
	t.Parallel()
	config := quick()
	config.Workers.Poll = time.Hour
	url := fxtest.URL(t)
	begun := make(chan struct{})
	s := start(t, config, fxtest.At(url), fxtest.Fx(fx.Replace(Work(func(ctx context.Context, _ *Job, _ func(int) error) (any, error) {
		close(begun)
		<-ctx.Done()
		return nil, ctx.Err()
	}))))
	ada := s.user("ada")
	job := s.job(ada, 1)
	<-begun

	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(context.WithoutCancel(t.Context()))) }()
	lock, err := conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = lock.Exec(t.Context(), "select from users where id = $1 for update", ada.ID)
	require.NoError(t, err)
	renamed := make(chan User, 1)
	go func() {
		renamed <- send[User](s, http.StatusOK, "PATCH", "/v1/users/"+ada.ID.String(), map[string]string{"username": "lovelace"})
	}()
	require.Eventually(t, func() bool {
		var waiting int
		err := conn.QueryRow(t.Context(), `select count(*) from pg_stat_activity where wait_event_type = 'Lock'
			and datname = current_database()`).Scan(&waiting)
		return err == nil && waiting == 1
	}, time.Minute, time.Millisecond, "the request is running")

	stopped := make(chan error, 1)
	go func() { stopped <- s.app.App.Stop(context.WithoutCancel(t.Context())) }()
	require.Eventually(t, func() bool {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/internal/livez", nil)
		require.NoError(t, err)
		response, err := new(http.Transport).RoundTrip(request) // on another connection
		if err == nil {
			require.NoError(t, response.Body.Close())
		}
		return err != nil
	}, time.Minute, time.Millisecond, "new requests are refused")
	require.NoError(t, lock.Rollback(t.Context()))
	assert.Equal(t, "lovelace", (<-renamed).Username)
	require.NoError(t, <-stopped)

	var status Status
	var attempts int
	require.NoError(t, conn.QueryRow(t.Context(), "select status, attempts from jobs where id = $1", job.ID).Scan(&status, &attempts))
	assert.Equal(t, Queued, status)
	assert.Zero(t, attempts, "the attempt does not count")
	assert.Equal(t, Succeeded, start(t, quick(), fxtest.At(url)).finished(job).Status, "another process works on it")
}

func TestWorkers_FinishTheJobOfAKilledProcess(t *testing.T) {
	t.Parallel()
	url := fxtest.URL(t)
	killed := exec.CommandContext(t.Context(), os.Args[0], "-addr", "127.0.0.1:0")
	killed.Env = append(os.Environ(), asService+"=1", "DATABASE_URL="+url, "WORKERS_LEASE=1s", "WORKERS_COUNT=1")
	var log strings.Builder
	killed.Stdout, killed.Stderr = &log, &log
	require.NoError(t, killed.Start())
	defer func() { _ = killed.Wait() }()

	// The tables exist when the other process is ready, so the second one waits for it and has no workers at first.
	config := quick()
	config.Workers.Count = 0
	first := start(t, config, fxtest.At(url))
	job := first.job(first.user("ada"), 100) // at least a second
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(log.String())
		}
	})
	require.Eventually(t, func() bool {
		job = send[Job](first, http.StatusOK, "GET", "/v1/jobs/"+job.ID.String(), nil)
		return job.Progress > 0
	}, time.Minute, time.Millisecond)
	require.NoError(t, killed.Process.Kill())
	require.Error(t, killed.Wait(), log.String())
	job = send[Job](first, http.StatusOK, "GET", "/v1/jobs/"+job.ID.String(), nil)
	require.Equal(t, Running, job.Status)

	job = start(t, quick(), fxtest.At(url)).finished(job)
	assert.Equal(t, Succeeded, job.Status)
	assert.Equal(t, int32(2), job.Attempts)
}

func TestMetrics_ShowDatabasesAndJobs(t *testing.T) {
	t.Parallel()
	s := start(t, quick())
	s.finished(s.job(s.user("ada"), 1))
	require.Eventually(t, func() bool { // the attempt ends after its job
		_, metrics, _ := s.request("GET", "/internal/metrics", nil)
		return strings.Contains(metrics, `outcome="succeeded"`) &&
			strings.Contains(metrics, `db_query_summary="Upsert users"`)
	}, time.Minute, 5*time.Millisecond)
}

package jobservice_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// startLimit bounds the start of a service.
const startLimit = time.Minute

// contender is a running service. All contenders share the tables; each has its own tenant.
type contender struct {
	name   string // also the tenant
	url    string
	pid    int
	client *http.Client
	users  []uuid.UUID
	jobs   []uuid.UUID
}

// response is what a client sees of a response.
type response struct {
	status int
	etag   string
	retry  string
	body   []byte
}

// send sends a request as the contender's tenant.
func (c *contender) send(ctx context.Context, method, path string, body any, match string) (response, error) {
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return response{}, err
		}
		content = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.url+path, content)
	if err != nil {
		return response{}, err
	}
	request.Header.Set("X-Tenant", c.name)
	if match != "" {
		request.Header.Set("If-Match", match)
	}
	r, err := c.client.Do(request)
	if err != nil {
		return response{}, err
	}
	defer func() { _ = r.Body.Close() }()
	text, err := io.ReadAll(r.Body)
	return response{status: r.StatusCode, etag: r.Header.Get("ETag"), retry: r.Header.Get("Retry-After"), body: text}, err
}

// startAll starts the job service, which makes the tables, and the other services on the same database.
func startAll(tb testing.TB, url string) []*contender {
	tb.Helper()
	job := filepath.Join(tb.TempDir(), "jobservice")
	build := exec.CommandContext(tb.Context(), "go", "build", "-o", job, "./jobservice")
	build.Dir = "../../examples" // another module, and the workspace may be off
	output, err := build.CombinedOutput()
	require.NoError(tb, err, string(output))
	self, err := os.Executable()
	require.NoError(tb, err)
	return []*contender{
		startProcess(tb, "rdsfx", job, url, "WORKERS_COUNT=0", "CLEANUP_EVERY=1h", fmt.Sprintf("DATABASE_POOL_MAX_CONNS=%d", poolSize)),
		startProcess(tb, "pgx", self, url, serviceEnv+"=pgx"),
		startProcess(tb, "GORM", self, url, serviceEnv+"=GORM"),
	}
}

// startProcess starts a service and waits until it serves requests.
func startProcess(tb testing.TB, name, executable, url string, variables ...string) *contender {
	tb.Helper()
	listener, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	addr := listener.Addr().String()
	require.NoError(tb, listener.Close())
	log, err := os.Create(filepath.Join(tb.TempDir(), "log"))
	require.NoError(tb, err)
	cmd := exec.CommandContext(context.WithoutCancel(tb.Context()), executable)
	cmd.Env = append(append(os.Environ(), "ADDR="+addr, "DATABASE_URL="+url), variables...)
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(tb, cmd.Start())
	transport := &http.Transport{MaxIdleConnsPerHost: clients}
	c := &contender{name: name, url: "http://" + addr, pid: cmd.Process.Pid, client: &http.Client{Transport: transport, Timeout: requestLimit}}
	tb.Cleanup(func() {
		transport.CloseIdleConnections()
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			tb.Errorf("%s: %v\n%s", name, err, readLog(log.Name()))
		}
		_ = log.Close()
	})
	require.Eventually(tb, func() bool {
		r, err := c.send(tb.Context(), http.MethodGet, "/v1/jobs?limit=1", nil, "")
		return err == nil && r.status == http.StatusOK
	}, startLimit, 5*time.Millisecond, "%s: %s", name, readLog(log.Name()))
	return c
}

func readLog(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// seed gives each contender n users and n jobs.
func seed(tb testing.TB, url string, contenders []*contender, n int) {
	tb.Helper()
	conn, err := pgx.Connect(tb.Context(), url)
	require.NoError(tb, err)
	defer func() { require.NoError(tb, conn.Close(context.WithoutCancel(tb.Context()))) }()
	for _, c := range contenders {
		rows, _ := conn.Query(tb.Context(), `insert into users (tenant, clerk_user_id, email, username, created_at, updated_at)
			select $1, 'user_' || i, 'user' || i || '@example.com', 'user ' || i, now(), now() from generate_series(0, $2::int - 1) i
			returning id`, c.name, n)
		c.users, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		require.NoError(tb, err)
		rows, _ = conn.Query(tb.Context(), `insert into jobs (tenant, user_id, configuration, version, created_at, updated_at)
			select $1, id, '{"topic": "go", "sections": 3}', 1, now() - random() * interval '1 day', now() from unnest($2::uuid[]) id
			returning id`, c.name, c.users)
		c.jobs, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		require.NoError(tb, err)
	}
	_, err = conn.Exec(tb.Context(), "vacuum analyze users, jobs")
	require.NoError(tb, err)
}

// withoutIDs returns a body without what differs from run to run: IDs, times and cursors. Of a problem it keeps the status.
func withoutIDs(tb testing.TB, r response) any {
	tb.Helper()
	var value map[string]any
	require.NoError(tb, json.Unmarshal(r.body, &value), string(r.body))
	if r.status >= http.StatusBadRequest {
		return nil
	}
	var clean func(value map[string]any)
	clean = func(value map[string]any) {
		for key, field := range value {
			switch {
			case key == "id", key == "user_id", strings.HasSuffix(key, "_at"), key == "run_after", key == "next":
				value[key] = "…"
			}
			if items, ok := field.([]any); ok {
				for _, item := range items {
					if object, ok := item.(map[string]any); ok {
						clean(object)
					}
				}
			}
		}
	}
	clean(value)
	return value
}

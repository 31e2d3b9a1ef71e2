package health_test

import (
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	osexec "os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

// standbyOf returns a streaming standby of a server, made by that server's own pg_basebackup.
func standbyOf(t *testing.T, primary *embedded.Server) *embedded.Server {
	t.Helper()
	program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", primary.PID()))
	require.NoError(t, err)
	data := filepath.Join(filepath.Dir(primary.DataDir()), "standby")
	backup := osexec.CommandContext(t.Context(), filepath.Join(filepath.Dir(program), "pg_basebackup"),
		"--dbname="+primary.URL(), "--pgdata="+data, "--write-recovery-conf", "--checkpoint=fast", "--no-sync")
	output, err := backup.CombinedOutput()
	require.NoError(t, err, string(output))
	owner, err := os.Stat(primary.DataDir())
	require.NoError(t, err)
	user := int(owner.Sys().(*syscall.Stat_t).Uid)
	require.NoError(t, filepath.WalkDir(data, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, user, -1)
	}))
	return runServer(t, embedded.Persistent(data), embedded.Setting("fsync", "off"),
		embedded.Setting("dynamic_shared_memory_type", "mmap")) // kill -9 leaves nothing in /dev/shm
}

func TestAFailoverToAPromotedStandbyIsFollowed(t *testing.T) {
	t.Parallel()
	primary := ownServer(t)
	standby := standbyOf(t, primary)
	hosts := make([]string, 0, 2)
	for _, own := range []*embedded.Server{primary, standby} {
		address, err := url.Parse(own.URL())
		require.NoError(t, err)
		hosts = append(hosts, address.Query().Get("host"))
	}

	reader := openDB(t, pgfx.Config{URL: standby.URL(), Health: pgfx.HealthConfig{Interval: never}})
	require.NoError(t, reader.Start(t.Context()))
	readers, readerTransitions := watch(t, reader)
	status := readers.Status()
	assert.Equal(t, health.ReadOnly, status.State)
	assert.True(t, status.Server.InRecovery)
	assert.True(t, status.Server.LagKnown)
	assert.False(t, status.Demoted, "a standby is what was asked for")
	code, body := get(t, health.NewHandler(readers), "/readyz")
	assert.Equal(t, http.StatusOK, code)
	assert.JSONEq(t, `{"status":"pass"}`, body)

	writer := openDB(t, pgfx.Config{
		URL: fmt.Sprintf("host=%s,%s user=postgres dbname=postgres", hosts[0], hosts[1]), Health: pgfx.HealthConfig{Interval: never},
	})
	require.NoError(t, writer.Start(t.Context()))
	writers, transitions := watch(t, writer)
	assert.Equal(t, health.Up, writers.Status().State)
	before := writers.Status().Server

	signal(t, syscall.SIGKILL, primary.PID())
	demoted := until(t, transitions, health.ReadOnly)
	assert.NotEmpty(t, demoted.Reset)
	assert.True(t, writers.Status().Demoted)
	_, err := writer.Pool().Exec(t.Context(), "select 1")
	require.NoError(t, err, "reads go on")
	_, err = writer.Pool().Exec(t.Context(), "create table written ()")
	var refused *pgconn.PgError
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, "25006", refused.Code)

	exec(t, standby.URL(), "select pg_promote()")
	promoted := time.Now()
	up := until(t, transitions, health.Up)
	t.Logf("up %v after the promotion", up.At.Sub(promoted).Round(time.Millisecond))
	assert.Equal(t, health.ResetRoleChanged, up.Reset)
	_, err = writer.Pool().Exec(t.Context(), "create table written ()")
	require.NoError(t, err)
	after := writers.Status().Server
	assert.Equal(t, before.SystemIdentifier, after.SystemIdentifier)
	assert.NotEqual(t, before.StartedAt, after.StartedAt)

	_, err = readers.CheckNow(t.Context())
	require.NoError(t, err)
	assert.Equal(t, health.ResetRoleChanged, until(t, readerTransitions, health.Up).Reset)
}

package main

import (
	"bytes"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/examples/internal/guiderun"
	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/internal/testredis"
	"github.com/rdsfx-go/rdsfx/repo/cutover"
)

func TestMain(m *testing.M) { fxtest.Main(m) }

// TestReadme_RunsAsWritten runs the commands of README.md. The first one ends with an audit of every acknowledged write.
func TestReadme_RunsAsWritten(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds the example")
	}
	server, err := testredis.Start(t.Context())
	if errors.Is(err, testredis.ErrNotInstalled) {
		t.Skip(err)
	}
	require.NoError(t, err)
	require.NoError(t, server.Stop())
	t.Setenv("TMPDIR", t.TempDir()) // the file with the addresses belongs to this test
	t.Setenv("REDIS_URL", "")
	guiderun.Follow(t, "README.md", guiderun.NewShell(t, "../..", "../.."))
}

func TestCommands_NeedServers(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	t.Setenv("REDIS_URL", "")
	t.Setenv("DATABASE_URL", "")
	require.ErrorContains(t, run(t.Context(), options{}, []string{"status"}), "start the example in another terminal")
	require.NoError(t, os.WriteFile(addressFile(), []byte("redis://"), 0o600))
	require.ErrorContains(t, run(t.Context(), options{}, []string{"status"}), "is incomplete")
}

func TestView_RedrawsItsBlock(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	v := &view{out: &out, terminal: true}
	status := &cutover.Status{
		Phase: cutover.ShadowRead, Epoch: 5, Repairs: 3, OldestRepair: time.Now().Add(-time.Minute), OldError: "refused", Undo: "Anything.",
		Processes: []cutover.Process{{Live: true, Epoch: 5}, {Live: true, Epoch: 4}, {}},
		Backfill:  cutover.BackfillProgress{Stage: "copy", Keys: 10, Total: 100, Rate: 45, Remaining: 2 * time.Second},
		Next: []cutover.Gate{
			{Name: "window", Found: "1s", Wanted: "2s", Action: "wait"}, {Name: "repairs", Found: "3", Wanted: "10", Passed: true},
		},
	}
	v.show(status, rates{writeRate: 7, errors: 1})
	for _, text := range []string{
		"shadow_read, epoch 5", "2 live, 1 have not observed the epoch", "copy 10 of 100 keys, 45 keys/s, 2s left", "3 keys, lag 1m0",
		"Redis        refused",
		"window: 1s, wanted 2s (blocked: wait)", "repairs: 3, wanted 10 (passed)", "7 writes/s, 0 reads/s, 1 errors",
	} {
		assert.Contains(t, out.String(), text)
	}
	assert.Equal(t, bytes.Count(out.Bytes(), []byte("\n")), v.lines)
	out.Reset()
	v.printf("a line")
	assert.Equal(t, "\x1b[10A\x1b[Ja line\n", out.String(), "the line replaces the block")
	assert.Zero(t, v.lines)
}

package faults_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

func TestServer_CrashesWhenTheDiskForWALIsFull(t *testing.T) {
	t.Parallel()
	server := faults.NewServer(t, embedded.Setting("max_wal_size", "32MB"), embedded.Setting("min_wal_size", "32MB"))
	if err := server.LimitWAL(160 << 20); errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	} else {
		require.NoError(t, err)
	}
	execute(t, connect(t, server.URL()), "create table entries (n int)", "insert into entries values (1)")
	for range 2 {
		release := server.FillWAL()
		_, err := tryConnect(t, server.URL())
		require.Error(t, err)
		release()
		server.Restart()
		conn := connect(t, server.URL())
		execute(t, conn, "insert into entries values (2)")
		assert.Positive(t, countEntries(t, conn))
	}
	assert.Equal(t, 3, countEntries(t, connect(t, server.URL())))
}

package health

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseServer_MissingColumns(t *testing.T) {
	t.Parallel()
	full := []string{"t", "on", "1700000000000001", "12", "97", "1500000", "7123", "3"}
	want := Server{
		InRecovery: true, ReadOnly: true, SystemIdentifier: "7123", Timeline: 3, StartedAt: time.UnixMicro(1700000000000001),
		ReplicationLag: 1500 * time.Millisecond, LagKnown: true, Connections: 12, MaxConnections: 97,
	}
	got, err := parseServer(full)
	require.NoError(t, err)
	assert.Equal(t, want, got)
	got, err = parseServer([]string{"f", "on"})
	require.NoError(t, err)
	assert.Equal(t, Server{ReadOnly: true}, got)
	got, err = parseServer([]string{"f", "off", "", "", "", "", "", ""})
	require.NoError(t, err)
	assert.Equal(t, Server{}, got)
	_, err = parseServer([]string{"f"})
	require.Error(t, err)
	_, err = parseServer([]string{"f", "off", "soon"})
	require.Error(t, err)
}

package postgres_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/postgres"
)

func TestLog_RotatesAtTheLimit(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	tail, err := postgres.WriteLog(path, 100, "first\n", "second line, which is longer\n", string(make([]byte, 90))+"\nlast\n")
	require.NoError(t, err)
	assert.Contains(t, tail, "\n  last")
	current, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Contains(t, string(current), "last")
	rotated, err := os.ReadFile(path + ".1")
	require.NoError(t, err)
	assert.Equal(t, "first\nsecond line, which is longer\n", string(rotated))
}

func TestLog_QuotesTheLastLines(t *testing.T) {
	t.Parallel()
	tail, err := postgres.WriteLog(filepath.Join(t.TempDir(), "log"), 1000, strings.Repeat("line\n", 100))
	require.NoError(t, err)
	assert.Equal(t, ":"+strings.Repeat("\n  line", 12), tail)
}

func TestOpenLog_ReturnsFileErrors(t *testing.T) {
	t.Parallel()
	_, err := postgres.OpenLog(filepath.Join(t.TempDir(), "missing", "log"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

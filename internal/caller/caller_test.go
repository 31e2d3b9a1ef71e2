package caller_test

import (
	"database/sql"
	"database/sql/driver"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/internal/caller"
)

// text is a driver.Valuer that records the stack of its caller.
type text struct{ pcs *[]uintptr }

func (x text) Value() (driver.Value, error) {
	var pcs [32]uintptr
	*x.pcs = pcs[:runtime.Callers(0, pcs[:])]
	return "", nil
}

func TestFrames_LeaveOutTheLibrary(t *testing.T) {
	t.Parallel()
	var pcs []uintptr
	_, err := sql.Null[text]{V: text{&pcs}, Valid: true}.Value() // called by database/sql
	require.NoError(t, err)
	through := false
	for frames := runtime.CallersFrames(pcs); ; {
		frame, more := frames.Next()
		through = through || frame.Function == "database/sql.Null[...].Value"
		if !more {
			break
		}
	}
	require.True(t, through)
	var functions []string
	for _, frame := range caller.Frames(pcs) {
		functions = append(functions, frame.Function)
	}
	assert.NotContains(t, functions, "database/sql.Null[...].Value")
	assert.Contains(t, functions, "github.com/rdsfx-go/rdsfx/internal/caller_test.TestFrames_LeaveOutTheLibrary")
	assert.Empty(t, caller.Frames(nil))
}

func TestPosition_IsOneLine(t *testing.T) {
	t.Parallel()
	frame := runtime.Frame{Function: "app.main", File: "/src/main.go", Line: 7}
	assert.Equal(t, "app.main (/src/main.go:7)", caller.Position(frame))
}

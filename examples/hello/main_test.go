package main

import (
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
)

// asProgram is a variable with which the test's executable is the program.
const asProgram = "HELLO_TEST_RUN"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	fxtest.Main(m)
}

func TestHello_StoresARow(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), asProgram+"=1", "DATABASE_URL="+fxtest.URL(t))
	output, err := cmd.CombinedOutput()
	require.NoError(t, err, string(output))
	assert.Regexp(t, `stored ada@example\.com as [0-9a-f-]{36}\n$`, string(output))
}

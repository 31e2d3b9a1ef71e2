//go:build unix

package txn_test

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/txn"
)

func TestLead_RefusesWriteOfFrozenLeader(t *testing.T) {
	t.Parallel()
	url := fxtest.URL(t)
	db := openDB(t, url)
	m := managerOf(t, db)
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), leaderEnv+"="+url)
	var failure strings.Builder
	child.Stderr = &failure
	stdin, err := child.StdinPipe()
	require.NoError(t, err)
	stdout, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start()) // the end of t.Context kills it
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err, failure.String())
	require.Equal(t, "leading\n", line)

	require.NoError(t, child.Process.Signal(syscall.SIGSTOP))
	terms, _ := campaign(t, m)
	current := next(t, terms) // the server has given up the frozen leader
	require.EqualValues(t, 2, current.leader.Epoch())
	require.NoError(t, fenced(current.ctx, m, current.leader, "new"))

	require.NoError(t, child.Process.Signal(syscall.SIGCONT))
	_, err = stdin.Write([]byte("write\n"))
	require.NoError(t, err)
	_ = child.Wait() // with the status of a failure
	assert.Contains(t, failure.String(), "the write: "+"txn: begin: "+txn.ErrNotLeader.Error())
	assert.Equal(t, []string{"new"}, entries(t, db))
}

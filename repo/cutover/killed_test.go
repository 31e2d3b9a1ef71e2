package cutover_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/repo/cutover"
	"github.com/rdsfx-go/rdsfx/txn"
)

const (
	// roleEnv makes the test binary a process of a cutover. The value is its role. The other variables are the databases, and the
	// prefix of the keys.
	roleEnv   = "RDSFX_TEST_CUTOVER_ROLE"
	oldURLEnv = "RDSFX_TEST_CUTOVER_OLD"
	newURLEnv = "RDSFX_TEST_CUTOVER_NEW"
	prefixEnv = "RDSFX_TEST_CUTOVER_PREFIX"

	writerRole   = "writer"
	operatorRole = "operator"
)

// runChild is the main function of a child process. It ends when it is killed.
func runChild(role string) error {
	ctx := context.Background()
	db, err := pgfx.Open(pgfx.Config{URL: os.Getenv(newURLEnv)})
	if err != nil {
		return err
	}
	if err := db.Start(ctx); err != nil {
		return err
	}
	tx, err := txn.NewManager(db)
	if err != nil {
		return err
	}
	rows, err := repo.New[Item, string](tx, "items")
	if err != nil {
		return err
	}
	items, err := cutover.FromRepository(rows, itemMapping())
	if err != nil {
		return err
	}
	pool, err := pgxpool.New(ctx, os.Getenv(oldURLEnv))
	if err != nil {
		return err
	}
	m, err := cutover.NewMover(tx, "test", cutover.Old[string](&oldStore{pool}), cutover.New[string](items), killedConfig())
	if err != nil {
		return err
	}
	if role == operatorRole {
		return operateUntilKilled(ctx, m)
	}
	if err := m.Start(ctx); err != nil {
		return err
	}
	for i := 1; ; i++ {
		key := os.Getenv(prefixEnv) + strconv.Itoa(i%2)
		if m.Store().Set(ctx, key, strconv.Itoa(i), 0) == nil {
			fmt.Println(key, i) //nolint:forbidigo // the parent reads it
		}
	}
}

// operateUntilKilled takes steps forward to PrimaryNew and then back.
func operateUntilKilled(ctx context.Context, m *mover) error {
	for {
		st, err := m.Status(ctx)
		if err != nil {
			return err
		}
		fmt.Println(st.Phase, 0) //nolint:forbidigo // the parent reads it
		switch st.Phase {
		case cutover.PrimaryNew:
			_, _ = m.Rollback(ctx, cutover.DualWrite)
		case cutover.Backfill:
			_, _ = m.Backfill(ctx, cutover.BackfillOptions{Batch: 1})
			fallthrough
		default:
			_, _ = m.Advance(ctx, cutover.AdvanceOptions{Force: true})
		}
	}
}

func killedConfig() config {
	c := quick()
	c.Lease, c.Hold, c.CopyTimeout = 400*time.Millisecond, 400*time.Millisecond, time.Second
	return c
}

// child is a process that writes or operates.
type child struct {
	cmd   *exec.Cmd
	lines chan struct{} // one element for each line, as far as it has room
	ended chan struct{}
}

// acks are the last acknowledged values of the keys.
type acks struct {
	mu   sync.Mutex
	last map[string]int
}

// spawnChild starts a child process, whose acknowledged writes it collects.
func (w *world) spawnChild(t *testing.T, role, prefix string, a *acks) *child {
	t.Helper()
	c := &child{cmd: exec.CommandContext(context.Background(), os.Args[0]), lines: make(chan struct{}, 1000), ended: make(chan struct{})}
	c.cmd.Env = append(os.Environ(), roleEnv+"="+role, oldURLEnv+"="+w.oldURL, newURLEnv+"="+w.newURL, prefixEnv+"="+prefix)
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.cmd.Start())
	go func() {
		defer close(c.ended)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var key string
			var value int
			if n, _ := fmt.Sscan(lines.Text(), &key, &value); n == 2 && role == writerRole { // a line may be cut by the kill
				a.mu.Lock()
				a.last[key] = max(a.last[key], value)
				a.mu.Unlock()
			}
			select {
			case c.lines <- struct{}{}:
			default:
			}
		}
		_ = c.cmd.Wait() // reports the kill
	}()
	t.Cleanup(func() { c.kill() })
	return c
}

// kill kills the process with SIGKILL and waits for its end.
func (c *child) kill() {
	_ = c.cmd.Process.Kill() // it may have ended
	<-c.ended
}

// await waits for n lines.
func (c *child) await(t *testing.T, n int) {
	t.Helper()
	timeout := time.After(waitTimeout)
	for range n {
		select {
		case <-c.lines:
		case <-c.ended:
			require.FailNow(t, "a child process has ended")
		case <-timeout:
			require.FailNow(t, "a child process makes no progress")
		}
	}
}

func TestCutover_SurvivesKilledProcesses(t *testing.T) {
	t.Parallel()
	for _, end := range []cutover.Phase{cutover.Done, cutover.Off} {
		t.Run(end.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.fill(t, 20)
			a := &acks{last: map[string]int{}}
			steady := w.spawnChild(t, writerRole, "steady", a)
			for round := range 4 { // writers and operators are killed at whatever points they are
				writer := w.spawnChild(t, writerRole, "w"+strconv.Itoa(round)+"-", a)
				operator := w.spawnChild(t, operatorRole, "", a)
				writer.await(t, 3)
				operator.await(t, 2+rand.IntN(3))
				writer.kill()
				operator.kill()
				steady.await(t, 1)
			}
			m := w.newMover(t, killedConfig())
			require.Eventually(t, func() bool {
				st, err := m.Status(t.Context())
				switch {
				case err != nil:
				case st.Phase == end:
					return true
				case end == cutover.Off:
					_, err = m.Rollback(t.Context(), end)
				case st.Phase == cutover.Backfill:
					if _, err = m.Backfill(t.Context(), cutover.BackfillOptions{}); err == nil {
						_, err = m.Advance(t.Context(), cutover.AdvanceOptions{Force: true})
					}
				default:
					_, err = m.Advance(t.Context(), cutover.AdvanceOptions{Force: true})
				}
				if err != nil {
					t.Log(err)
				}
				return false
			}, 2*waitTimeout, time.Millisecond)
			steady.await(t, 3)
			steady.kill()

			read := w.newEntry
			if end == cutover.Off {
				read = w.oldEntry
			}
			for key, acknowledged := range a.last {
				value, err := strconv.Atoi(read(t, key).Value)
				require.NoError(t, err, key)
				assert.GreaterOrEqual(t, value, acknowledged, key)
			}
			assert.Equal(t, "v7", read(t, "key:7").Value)
		})
	}
}

package poolstats_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/rdsfx-go/rdsfx/internal/poolstats"
)

func TestLeaseChecker_ChecksWhenALeaseMayExceedItsLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var (
			mu     sync.Mutex
			start  = time.Now()
			next   = time.Duration(-1) // no lease
			checks []time.Duration
		)
		checker := poolstats.NewLeaseChecker(func() time.Duration {
			mu.Lock()
			defer mu.Unlock()
			checks = append(checks, time.Since(start))
			return next
		})
		set := func(variable *time.Duration, value time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			*variable = value
		}
		checked := func(wait time.Duration) []time.Duration {
			time.Sleep(wait)
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			all := checks
			checks = nil
			return all
		}
		assert.Empty(t, checked(time.Hour), "without a limit nothing runs")
		checker.Require(0)
		checker.Require(-1)
		assert.Empty(t, checked(time.Hour))

		checker.Require(time.Minute)
		began := time.Since(start)
		assert.Equal(t, []time.Duration{began + time.Minute, began + 2*time.Minute}, checked(2*time.Minute))
		set(&next, 10*time.Second)
		third := began + 3*time.Minute
		assert.Equal(t, []time.Duration{third, third + 10*time.Second}, checked(70*time.Second), "a lease is due in 10 s")

		set(&next, -1)
		checker.Require(time.Second)
		checker.Require(time.Hour)
		assert.Len(t, checked(5*time.Second), 5, "the shortest limit counts")

		set(&next, 0)
		assert.Less(t, len(checked(time.Second)), 1100, "never more often than once a millisecond")
		checker.Stop()
		checker.Require(time.Millisecond)
		assert.Empty(t, checked(time.Hour))
	})
}

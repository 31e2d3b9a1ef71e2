package chaos_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

// applications are those of each scene.
var applications = []string{"rdsfx", "rdsfx", "pgx"}

// TestBank_LosesNothing plays scenes until RDSFX_CHAOS_SECONDS have passed. A scene has each fault in a random order, and a failover.
// It ends early when the time is over. RDSFX_CHAOS_SEED repeats the order of a run.
func TestBank_LosesNothing(t *testing.T) { //nolint:tparallel // one scene after another
	t.Parallel()
	if os.Getenv(embedded.EnvURL) != "" {
		t.Skipf("the faults need their own servers: unset %s", embedded.EnvURL)
	}
	seed := envNumber(t, "RDSFX_CHAOS_SEED", rand.Uint64N(1_000_000))
	limit := time.Duration(envNumber(t, "RDSFX_CHAOS_SECONDS", 10)) * time.Second
	report := newBankReport(seed)
	began := time.Now()
	random := rand.New(rand.NewPCG(seed, 0))
	first := random.IntN(int(failovers))
	for i := 0; i == 0 || time.Since(began) < limit && !t.Failed(); i++ {
		t.Run(fmt.Sprintf("scene %d", i+1), func(t *testing.T) {
			playScene(t, random, began.Add(limit), failover((first+i)%int(failovers)), report)
		})
	}
	report.took = time.Since(began)
	failures := report.failures()
	assert.Empty(t, failures)
	publish(t, "bank", report.String(), len(failures))
}

func playScene(t *testing.T, random *rand.Rand, end time.Time, failover failover, report *bankReport) {
	t.Helper()
	s := newScene(t, random, failover == failoverLossless)
	s.failover = failover
	for _, kind := range applications {
		s.start(kind)
	}
	s.awaitRecovery() // until all work
	list := append([]fault{walFull}, faultList...)
	if s.walUnlimited {
		t.Log("the disk for WAL can't be filled: mounting a file system requires root")
		list = list[1:]
	}
	random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	at := random.IntN(len(list) + 1)
	for i, f := range slices.Insert(list, at, failover.fault()) {
		if i == at || time.Now().Before(end) {
			s.strike(f)
		}
	}
	s.check(report)
}

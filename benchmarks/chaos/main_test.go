package chaos_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"testing"

	"github.com/rdsfx-go/rdsfx/fxtest"
)

// processEnv is the variable that holds the processConfig of a process of the suite, which is this binary, started again.
const processEnv = "RDSFX_CHAOS_PROCESS"

func TestMain(m *testing.M) {
	text := os.Getenv(processEnv)
	if text == "" {
		fxtest.Main(m)
		return
	}
	var config processConfig
	err := json.Unmarshal([]byte(text), &config)
	if err == nil {
		err = config.run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// envNumber returns the number in an environment variable, or fallback if it is not set.
func envNumber(tb testing.TB, name string, fallback uint64) uint64 {
	tb.Helper()
	text := os.Getenv(name)
	if text == "" {
		return fallback
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		tb.Fatalf("%s: %v", name, err)
	}
	return n
}

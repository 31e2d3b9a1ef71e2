package pgfx_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// secret does not occur in any error message.
const secret = "hunter2hunter2"

// FuzzURL checks that errors and printed configurations never show a secret inside a password, percent-encoded or not.
func FuzzURL(f *testing.F) {
	for _, seed := range [][2]string{
		{"", ""},
		{"a@", "b"},
		{"%zz", ""},
		{"a:", ":1"},
		{"", "@h1:1,h2:2"},
		{"a/", "/"},
		{"", "?x=y"},
		{"\x00", "#"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		config := pgfx.Config{URL: "postgres://app:" + before + secret + after + "@localhost/app"}
		err := config.Validate()
		assert.NotContains(t, fmt.Sprintf("%v %+v %#v", err, err, err), secret)
		assert.NotContains(t, fmt.Sprintf("%v %+v %#v", config, config, config.WithDefaults()), secret)
	})
}

// FuzzEnvironment sets variables of every type to arbitrary values.
func FuzzEnvironment(f *testing.F) {
	for _, seed := range []string{"", "1", "-1", "-1ns", "30s", "true", "postgres://a:b@c/d", "1e9", "\x00", "99999999999999999999"} {
		f.Add(seed)
	}
	names := []string{
		"URL", "PORT", "POOL_MAX_CONNS", "POOL_ACQUIRE_TIMEOUT", "RETRY_MULTIPLIER", "DISABLE_FAST_CODECS", "TLS_MODE", "START_MODE", "EXEC_MODE",
	}
	f.Fuzz(func(t *testing.T, value string) {
		environment := map[string]string{"FUZZ_PASSWORD": secret}
		for _, name := range names {
			environment["FUZZ_"+name] = value
		}
		config, err := pgfx.ConfigFromMap("FUZZ_", environment)
		if err == nil {
			err = config.Validate()
		}
		assert.NotContains(t, fmt.Sprintf("%v %+v %#v %v %+v %#v", err, err, err, config, config, config), secret)
	})
}

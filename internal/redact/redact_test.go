package redact_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/rdsfx-go/rdsfx/internal/redact"
)

func TestConnString_MasksPasswords(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"":                                     "",
		"postgres://app@localhost/app":         "postgres://app@localhost/app",
		"postgres://app:pw@localhost:5432/app": "postgres://app:xxxxx@localhost:5432/app",
		"postgres://app:pw@a:1,b:2/app":        "postgres://app:xxxxx@a:1,b:2/app",
		"postgres://app:p/w@localhost/app":     "postgres://app:xxxxx@localhost/app",
		"postgres://app:p@w@localhost/app":     "postgres://app:xxxxx@localhost/app",
		"postgres://app:%zz@localhost/app":     "postgres://app:xxxxx@localhost/app",
		"postgres://h/d?Password=pw&x=y":       "postgres://h/d?Password=xxxxx&x=y",
		"postgres://h/d?pass%77ord=pw":         "postgres://h/d?pass%77ord=xxxxx",
		"postgres://h/d?x=a@b:c@d":             "postgres://h/d?x=a@b:c@d",
		`host=h password=p\ w dbname=d`:        "host=h password=xxxxx dbname=d",
		"host=h password=p&w dbname=d":         "host=h password=xxxxx dbname=d",
		"host=h password=pw dbname=d":          "host=h password=xxxxx dbname=d",
		"host=h password = 'p w' dbname=d":     "host=h password = xxxxx dbname=d",
		`host=h sslpassword='p\' w' dbname=d`:  "host=h sslpassword=xxxxx dbname=d",
		"host=h password='open":                "host=h password=xxxxx",
		"postgres://app:p w\n@localhost/app":   "postgres://app:xxxxx@localhost/app",
		"postgres://a/b:pw@localhost/app":      "postgres://a/b:xxxxx@localhost/app",
		" postgres://app:p w@localhost/app":    " postgres://app:xxxxx@localhost/app",
		"postgres://my app:pw@localhost/app":   "postgres://my app:xxxxx@localhost/app",
		"app:p w@localhost/app":                "app:xxxxx@localhost/app",
		"app:p=w@localhost/app":                "app:xxxxx@localhost/app",
		"//app:pw@localhost/app":               "//app:xxxxx@localhost/app",
		"postgres:/app:pw@localhost/app":       "postgres:xxxxx@localhost/app",
		"postgres://app:pw":                    "postgres://app:xxxxx",
		"postgres://app:5pw/app":               "postgres://app:xxxxx/app",
		"app:pw":                               "app:xxxxx",
		"postgres://a:5432,b:5433/app?x=y":     "postgres://a:5432,b:5433/app?x=y",
		"postgres://[::1]:5432/app":            "postgres://[::1]:5432/app",
		"postgres://app@[::1]:5432/app":        "postgres://app@[::1]:5432/app",
		"localhost:5432":                       "localhost:5432",
		"::1":                                  "::1",
		"/run/postgresql":                      "/run/postgresql",
		"host=::1 user=a@b":                    "host=::1 user=a@b",
		"cannot parse postgres://a:pw@h/d: no": "cannot parse postgres://a:xxxxx@h/d: no",
	} {
		assert.Equal(t, want, redact.ConnString(given), given)
	}
}

func TestParseError_QuotesNothing(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "failed to parse as URL", redact.ParseError(errors.New("cannot parse `postgres://a:p w@h/d`: failed to parse as URL (\"p w\")")))
	assert.Equal(t, "it is malformed", redact.ParseError(errors.New("p w is no password")))
}

func FuzzConnString(f *testing.F) {
	for _, seed := range []string{"", "@", "/", ":", "%", "a b", "?x=y", "'", `\`} {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		const secret = "hunter2hunter2"
		for _, scheme := range []string{"postgres://", "//", ""} {
			if scheme == "" && strings.HasPrefix(before+secret, "//") {
				continue // app is a scheme then
			}
			url := scheme + "app:" + before + secret + after + "@localhost/app"
			if shown := redact.ConnString(url); strings.Contains(shown, secret) {
				t.Errorf("%q is shown as %q", url, shown)
			}
		}
	})
}

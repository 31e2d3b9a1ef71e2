package chaos_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the report into docs/reliability.md")

// bullets returns a Markdown list.
func bullets(items []string) string {
	var b strings.Builder
	for _, item := range items {
		b.WriteString("\n- " + item)
	}
	return b.String()
}

// publish prints a report with its verdict. With -update it also writes it into docs/reliability.md, between the marks of this
// name. failures are those that the report names; other errors of the test count as one.
func publish(tb testing.TB, name, report string, failures int) {
	tb.Helper()
	if tb.Failed() {
		failures = max(1, failures)
	}
	result := "Verdict: PASS"
	if failures > 0 {
		result = fmt.Sprintf("Verdict: FAIL (%d)", failures)
	}
	text := strings.TrimSpace(report) + "\n\n" + result + "\n"
	_, _ = fmt.Fprint(os.Stdout, text)
	if !*update {
		return
	}
	const path = "../../docs/reliability.md"
	page, err := os.ReadFile(path)
	require.NoError(tb, err)
	begin, end := "<!-- report "+name+" -->\n", "\n<!-- end -->"
	before, rest, found := strings.Cut(string(page), begin)
	_, after, ended := strings.Cut(rest, end)
	require.True(tb, found && ended, "%s has the marks of the report %q", path, name)
	require.NoError(tb, os.WriteFile(path, []byte(before+begin+"\n"+text+end+after), 0o600))
}

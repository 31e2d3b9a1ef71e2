package measure

import (
	"fmt"
	"os"
	"strings"
)

// Replace replaces the text between the lines <!-- NAME --> and <!-- end of NAME --> of a file.
func Replace(file, name, text string) error {
	from, to := "<!-- "+name+" -->\n", "<!-- end of "+name+" -->"
	old, err := os.ReadFile(file) //nolint:gosec // chosen by the caller
	if err != nil {
		return err
	}
	head, rest, found := strings.Cut(string(old), from)
	_, tail, foundToo := strings.Cut(rest, to)
	if !found || !foundToo {
		return fmt.Errorf("%s has no lines %q and %q", file, strings.TrimSpace(from), to)
	}
	return os.WriteFile(file, []byte(head+from+"\n"+strings.TrimSpace(text)+"\n\n"+to+tail), 0o644) //nolint:gosec // a document
}

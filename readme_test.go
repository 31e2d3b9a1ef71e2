package rdsfx_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// goBlock matches a block of Go in a document, with the comment that names its source.
var goBlock = regexp.MustCompile("(?s)(<!-- from ([^:\n]+): ([^\n]+) -->\n)?```go\n(.*?)```")

// TestDocuments_GoBlocksAreCompiled compares every block of Go in the documents with a region of a Go file, which the tests
// compile and run. The region stands between `// docs: name` and `// docs: end`.
func TestDocuments_GoBlocksAreCompiled(t *testing.T) {
	t.Parallel()
	var documents []string
	require.NoError(t, filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".md") {
			documents = append(documents, path)
		}
		return err
	}))
	require.Contains(t, documents, "README.md")
	for _, document := range documents {
		text, err := os.ReadFile(document)
		require.NoError(t, err)
		for _, block := range goBlock.FindAllStringSubmatch(string(text), -1) {
			file, name, code := block[2], block[3], block[4]
			if !assert.NotEmpty(t, file, "%s: put `<!-- from FILE: REGION -->` before this block of Go:\n%s", document, code) {
				continue
			}
			assert.Equal(t, region(t, file, name), code, "%s: %s of %s", document, name, file)
		}
	}
}

// region returns the lines of a region without the indentation of its first line.
func region(t *testing.T, file, name string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(text), "// docs: "+name+"\n")
	require.True(t, found, "%s has no region %q", file, name)
	body, _, found := strings.Cut(rest, "// docs: end\n")
	require.True(t, found, "%s: the region %q has no end mark", file, name)
	body = body[:strings.LastIndex(body, "\n")+1] // the indentation of the end mark
	first := strings.TrimLeft(body, "\n")
	indent := first[:len(first)-len(strings.TrimLeft(first, "\t"))]
	var out strings.Builder
	for line := range strings.Lines(body) {
		out.WriteString(strings.TrimPrefix(line, indent))
	}
	return strings.Trim(out.String(), "\n") + "\n"
}

// TestReadme_BadgesAreTrue compares the badges with go.mod and with the matrix of CI.
func TestReadme_BadgesAreTrue(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	module, err := os.ReadFile("go.mod")
	require.NoError(t, err)
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(module)
	require.NotNil(t, version)
	assert.Contains(t, string(readme), "badge/Go-"+string(version[1])+"-")
	workflow, err := os.ReadFile(".github/workflows/ci.yml")
	require.NoError(t, err)
	tested := regexp.MustCompile(`postgres: \[(\d+)[\d, ]* (\d+)\]`).FindSubmatch(workflow)
	require.NotNil(t, tested)
	assert.Contains(t, string(readme), "badge/PostgreSQL-"+string(tested[1])+"_to_"+string(tested[2])+"-")
	assert.Contains(t, string(readme), "actions/workflows/ci.yml/badge.svg")
	license, err := os.ReadFile("LICENSE")
	require.NoError(t, err)
	assert.Contains(t, string(license), "MIT")
}

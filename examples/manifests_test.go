package examples_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// TestDocuments_ManifestsParse parses each block of YAML and JSON in the documents.
func TestDocuments_ManifestsParse(t *testing.T) {
	t.Parallel()
	documents, err := filepath.Glob("../docs/*.md")
	require.NoError(t, err)
	block := regexp.MustCompile("(?s)```(yaml|json)\n(.*?)```")
	var blocks int
	for _, document := range documents {
		text, err := os.ReadFile(document)
		require.NoError(t, err)
		for _, match := range block.FindAllSubmatch(text, -1) {
			blocks++
			var value any
			if string(match[1]) == "json" {
				require.NoError(t, json.Unmarshal(match[2], &value), "%s:\n%s", document, match[2])
			} else {
				require.NoError(t, yaml.Unmarshal(match[2], &value), "%s:\n%s", document, match[2])
			}
		}
	}
	assert.Greater(t, blocks, 3)
}

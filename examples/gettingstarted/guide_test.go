package main

import (
	"path/filepath"
	"testing"

	"github.com/rdsfx-go/rdsfx/examples/internal/guiderun"
)

// TestGuide_RunsAsWritten follows docs/getting-started.md in an empty directory.
func TestGuide_RunsAsWritten(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it builds an application")
	}
	dir := t.TempDir()
	terminal := guiderun.NewShell(t, dir, filepath.Join(dir, "bank"))
	terminal.UseCheckout("../..", "../go.sum")
	guiderun.Follow(t, "../../docs/getting-started.md", terminal)
}

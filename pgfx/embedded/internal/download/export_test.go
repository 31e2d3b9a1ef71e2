package download

import (
	"archive/tar"
	"context"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"
)

// These functions take the operating system's properties as arguments.
var (
	PlatformName = platformName
	UsesMusl     = usesMusl
	NewSource    = newSource
)

// Platforms returns the platforms that at least one layout supports.
func Platforms() []string {
	var names []string
	for name := range platforms {
		names = append(names, name)
	}
	return names
}

// SetTimes sets the stall timeout and the interval of the lines in the log.
func (s *Source) SetTimes(stall, progress time.Duration) {
	s.stallTimeout, s.progressInterval = stall, progress
}

// BinDir returns the directory of the server binaries in dir.
func (s *Source) BinDir(dir string) string { return s.binDir(dir) }

// PartOf returns the path of the archive while it is being downloaded to dir.
func (s *Source) PartOf(dir string) string { return s.Home(dir) + ".part" }

// Explain adds what to do to an error.
var Explain = explain

// CheckRedirect checks a redirect from one URL to another.
func CheckRedirect(from, to string) error {
	source, err := url.Parse(from)
	if err != nil {
		return err
	}
	target, err := url.Parse(to)
	if err != nil {
		return err
	}
	return checkRedirect(&http.Request{URL: target}, []*http.Request{{URL: source}})
}

// ExtractLimited extracts a tar file of at most limit bytes.
func ExtractLimited(packed io.Reader, dir string, limit int64) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	x := extractor{root: root, links: make(map[string]bool), left: limit}
	return x.extractAll(context.Background(), tar.NewReader(packed))
}

package embedded

import (
	"cmp"
	"strings"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/download"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/postgres"
)

// downloadSource returns what a start downloads if the machine has no server binaries. The source is nil if downloads are
// forbidden or impossible, and reason states why.
func (o options) downloadSource(env postgres.Getenv) (source *download.Source, reason string, err error) {
	if strings.EqualFold(o.download, DownloadOff) {
		return nil, "the option Download is " + DownloadOff, nil
	}
	source, reason, err = download.New(cmp.Or(env(EnvDownload), o.download), cmp.Or(env(EnvDownloadVersion), o.downloadVersion))
	if source != nil && len(o.downloadDirs) > 0 {
		source.Dirs = o.downloadDirs
	}
	return source, reason, err
}

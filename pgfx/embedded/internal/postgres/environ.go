package postgres

import "strings"

// The environment variables that select a server.
const (
	EnvURL = "RDSFX_POSTGRES_URL"
	EnvBin = "RDSFX_POSTGRES_BIN"
)

// Getenv returns the value of an environment variable, like [os.Getenv]. Code that depends on the environment receives it as an
// argument, so that tests can provide their own.
type Getenv func(name string) string

// inherited lists the variables that server binaries inherit. PGDATA, PGPORT or PGOPTIONS would change their behavior, and the
// application's secrets must not reach another process.
var inherited = []string{
	"PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH", "ICU_DATA", "TMPDIR",
	"SYSTEMROOT", "SYSTEMDRIVE", "TEMP", "TMP", "COMSPEC", "PATHEXT", "WINDIR", "USERPROFILE", "APPDATA",
}

// serverEnviron returns the environment of server binaries: English messages, UTC and the inherited variables of environ.
func serverEnviron(environ []string) []string {
	kept := []string{"LC_ALL=C", "LANG=C", "TZ=UTC"}
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		for _, allowed := range inherited {
			if strings.EqualFold(name, allowed) {
				kept = append(kept, entry)
				break
			}
		}
	}
	return kept
}

package embedded

import "strings"

// The environment variables that this package reads.
const (
	// EnvURL names a running server to use instead of starting one.
	EnvURL = "RDSFX_POSTGRES_URL"
	// EnvBin names the directory that holds the programs postgres and initdb.
	EnvBin = "RDSFX_POSTGRES_BIN"
	// EnvUser names the user of the operating system that runs the server when this process is root.
	EnvUser = "RDSFX_POSTGRES_USER"
	// EnvDatabaseURL is the application's own setting: when it is set, [Module] provides a zero Endpoint and starts nothing.
	EnvDatabaseURL = "DATABASE_URL"
)

// passedOn are the variables that the server's programs may see. Everything else stays away from them: PGDATA, PGPORT or
// PGOPTIONS would change what they do, and an application's secrets are none of their business.
var passedOn = []string{
	"PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH", "ICU_DATA", "TMPDIR",
	"SYSTEMROOT", "SYSTEMDRIVE", "TEMP", "TMP", "COMSPEC", "PATHEXT", "WINDIR", "USERPROFILE", "APPDATA",
}

// serverEnviron returns the environment in which the server's programs run: English messages, UTC, and little else.
func serverEnviron(environ []string) []string {
	kept := []string{"LC_ALL=C", "LANG=C", "TZ=UTC"}
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		for _, pass := range passedOn {
			if strings.EqualFold(name, pass) {
				kept = append(kept, entry)
				break
			}
		}
	}
	return kept
}

// lookup reads one variable. It is a parameter of everything that depends on the environment, so that tests give their own.
type lookup func(name string) string

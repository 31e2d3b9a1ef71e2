package embedded

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/download"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/postgres"
)

// Option configures a server. The order of options has no effect: options that contradict each other are an error.
type Option func(*options) error

// options are the caller's wishes, independent of the environment.
type options struct {
	settings           map[string]string
	tcp                bool
	persistent         string
	tempDir            string
	removeWhenOrphaned []string
	logger             *zap.Logger
	download           string
	downloadVersion    string
	// downloadDirs replace [download.Dirs] in tests, and find is [postgres.Find] otherwise.
	downloadDirs []string
	find         func(postgres.Getenv, postgres.Downloads) (postgres.Found, error)
}

// reservedSettings are the server settings that this package controls, each with the alternative for users.
var reservedSettings = map[string]string{
	"config_file":             "change single settings with Setting",
	"data_directory":          "use Persistent",
	"external_pid_file":       "use Server.PID",
	"hba_file":                "the socket is private and TCP requires a password",
	"listen_addresses":        "use TCP",
	"log_destination":         "read Server.LogFile",
	"logging_collector":       "read Server.LogFile",
	"port":                    "use TCP, which selects a free port",
	"unix_socket_directories": "the socket is in the server's own directory",
	"unix_socket_group":       "the socket is in a private directory",
	"unix_socket_permissions": "the socket is in a private directory",
}

var settingName = regexp.MustCompile(`^[a-z_][a-z0-9_$]*(\.[a-z_][a-z0-9_$]*)?$`)

// Setting sets a server setting (PostgreSQL manual, "Server Configuration"), for example Setting("max_connections", "300"). It
// overrides this package's defaults. The name is not case-sensitive. If the server rejects the value, Start fails with the
// server's message.
func Setting(name, value string) Option {
	return func(o *options) error {
		key := strings.ToLower(name)
		if !settingName.MatchString(key) {
			return fmt.Errorf("setting %q: not the name of a server setting", name)
		}
		if alternative, reserved := reservedSettings[key]; reserved {
			return fmt.Errorf("setting %s is controlled by this package: %s", key, alternative)
		}
		if strings.ContainsRune(value, 0) {
			return fmt.Errorf("setting %s: the value contains a zero byte", key)
		}
		if before, set := o.settings[key]; set && before != value {
			// The values aren't quoted: primary_conninfo contains a password, for example.
			return fmt.Errorf("setting %s is given twice with different values", key)
		}
		if o.settings == nil {
			o.settings = make(map[string]string)
		}
		o.settings[key] = value
		return nil
	}
}

// TCP makes the server listen on a free port of 127.0.0.1 in addition to its Unix socket, and makes that port its address.
// Logins over TCP require the superuser's password, which is random and part of [Server.URL].
func TCP() Option {
	return func(o *options) error {
		o.tcp = true
		return nil
	}
}

// Persistent keeps the server's data in dir, so the database survives restarts. initdb creates dir if it doesn't exist or is
// empty. Durability settings keep PostgreSQL's defaults. A relative dir is resolved when Persistent is called.
//
// Start fails if another running server uses dir, if dir contains something else, or if another major version created it.
func Persistent(dir string) Option {
	return func(o *options) error { return setDir(&o.persistent, "persistent", dir) }
}

// TempDir creates the server's directory (socket, log and temporary data) in dir instead of /dev/shm or the temp directory. dir
// must exist, be writable and have a short path: the path of a socket is limited to about 100 bytes. A relative dir is resolved
// when TempDir is called.
func TempDir(dir string) Option {
	return func(o *options) error { return setDir(&o.tempDir, "temp dir", dir) }
}

func setDir(field *string, option, dir string) error {
	if dir == "" {
		return fmt.Errorf("%s: the directory is empty", option)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("%s: %w", option, err)
	}
	if *field != "" && *field != abs {
		return fmt.Errorf("%s is given twice, as %s and as %s", option, *field, abs)
	}
	*field = abs
	return nil
}

// DownloadOff is the value of [Download] and of RDSFX_POSTGRES_DOWNLOAD that forbids downloads.
const DownloadOff = download.Off

// Download names the repository from which Start downloads server binaries if the machine has none, or forbids downloads with
// [DownloadOff]. RDSFX_POSTGRES_DOWNLOAD takes precedence, but either can forbid downloads.
//
// The default is https://repo1.maven.org/maven2, Maven Central. A URL names a Maven repository with the artifacts of
// zonkyio/embedded-postgres-binaries, for example a mirror in your network. The prefix theseus+ names a directory with the files
// of theseus-rs/postgresql-binaries:
//
//	theseus+https://github.com/theseus-rs/postgresql-binaries/releases/download
//
// A user and a password in the URL are sent to the repository, and are not logged. The proxies of the environment (HTTPS_PROXY,
// NO_PROXY) apply. The package documentation describes where the binaries are stored.
func Download(repository string) Option {
	return func(o *options) error {
		if o.download != "" && o.download != repository {
			return errors.New("download is given twice, with different repositories")
		}
		o.download = repository
		return nil
	}
}

// DownloadVersion selects the version to download, as the repository names it: three numbers, such as 17.6.0, which is the
// default. RDSFX_POSTGRES_DOWNLOAD_VERSION takes precedence. An installed server of any version is used first.
func DownloadVersion(version string) Option {
	return func(o *options) error {
		if o.downloadVersion != "" && o.downloadVersion != version {
			return fmt.Errorf("download version is given twice, as %s and as %s", o.downloadVersion, version)
		}
		o.downloadVersion = version
		return nil
	}
}

// RemoveWhenOrphaned removes these files and directories, recursively, if the program ends without stopping the server. It is
// meant for a [Persistent] directory that has no further use then, such as a test's. The server is then stopped quickly,
// because its data is removed anyway. Relative paths are resolved when RemoveWhenOrphaned is called. [Shared] rejects the
// option, because a shared server has no owner.
func RemoveWhenOrphaned(paths ...string) Option {
	return func(o *options) error {
		for _, path := range paths {
			abs, err := filepath.Abs(path)
			if err != nil {
				return fmt.Errorf("remove when orphaned: %w", err)
			}
			if path == "" || filepath.Dir(abs) == abs {
				return fmt.Errorf("remove when orphaned: refusing to remove %q", path)
			}
			o.removeWhenOrphaned = append(o.removeWhenOrphaned, abs)
		}
		return nil
	}
}

// Logger logs the server's start and its unexpected end to log. By default nothing is logged; in Fx, the application's logger
// is used under the name "embedded".
func Logger(log *zap.Logger) Option {
	return func(o *options) error {
		if log == nil {
			return errors.New("logger is nil")
		}
		o.logger = log
		return nil
	}
}

// applyOptions applies opts and returns all of their errors. Nil options are ignored. If no option sets a logger, logger is
// used, which may be nil.
func applyOptions(opts []Option, logger *zap.Logger) (options, error) {
	var (
		o    options
		errs []error
	)
	for _, opt := range opts {
		if opt == nil {
			continue
		}
		if err := opt(&o); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return options{}, fmt.Errorf("embedded: %w", err)
	}
	if o.find == nil {
		o.find = postgres.Find
	}
	switch {
	case o.logger != nil:
	case logger != nil:
		o.logger = logger
	default:
		o.logger = zap.NewNop()
	}
	return o, nil
}

// serverOptions names the given options that don't apply to a server from RDSFX_POSTGRES_URL.
func (o options) serverOptions() []string {
	var names []string
	if o.tcp {
		names = append(names, "TCP")
	}
	if o.persistent != "" {
		names = append(names, "Persistent")
	}
	if len(o.removeWhenOrphaned) > 0 {
		names = append(names, "RemoveWhenOrphaned")
	}
	for _, name := range slices.Sorted(maps.Keys(o.settings)) {
		names = append(names, "Setting("+name+")")
	}
	return names
}

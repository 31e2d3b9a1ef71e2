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
)

// Option shapes a server. The order of options means nothing: two that contradict each other are an error.
type Option func(*options) error

// options is what the caller asked for, before the environment has been looked at.
type options struct {
	settings   map[string]string
	tcp        bool
	persistent string
	tempDir    string
	orphaned   []string
	logger     *zap.Logger
	// logs tells that the caller chose the logger.
	logs bool
}

// ownSettings are the server settings that this package decides, each with what to use instead.
var ownSettings = map[string]string{
	"config_file":             "change single settings with Setting",
	"data_directory":          "use Persistent",
	"external_pid_file":       "use Server.PID",
	"hba_file":                "the socket is private and TCP always asks for the password",
	"listen_addresses":        "use TCP",
	"log_destination":         "the log is read by the keeper, see Server.LogFile",
	"logging_collector":       "the log is read by the keeper, see Server.LogFile",
	"port":                    "use TCP, which picks a free port",
	"unix_socket_directories": "the socket lives in a directory of its own",
	"unix_socket_group":       "the socket lives in a private directory",
	"unix_socket_permissions": "the socket lives in a private directory",
}

var settingName = regexp.MustCompile(`^[a-z_][a-z0-9_$]*(\.[a-z_][a-z0-9_$]*)?$`)

// Setting gives the server setting name (a parameter of PostgreSQL manual chapter "Server Configuration") the value, as postgres
// -c does: Setting("max_connections", "300"). It wins over what this package sets for throw-away servers. Names are not
// case-sensitive. A value that the server doesn't accept makes the start fail with the server's own message.
func Setting(name, value string) Option {
	return func(o *options) error {
		key := strings.ToLower(name)
		if !settingName.MatchString(key) {
			return fmt.Errorf("setting %q: not the name of a server setting", name)
		}
		if instead, own := ownSettings[key]; own {
			return fmt.Errorf("setting %s is decided by this package: %s", key, instead)
		}
		if strings.ContainsRune(value, 0) {
			return fmt.Errorf("setting %s: the value holds a zero byte", key)
		}
		if before, set := o.settings[key]; set && before != value {
			return fmt.Errorf("setting %s is given twice, as %q and as %q", key, before, value)
		}
		if o.settings == nil {
			o.settings = make(map[string]string)
		}
		o.settings[key] = value
		return nil
	}
}

// TCP makes the server listen on a free port of 127.0.0.1 too, and makes that its address. Logins over TCP need the password of
// the superuser, which is random, new for each start and part of the URL.
func TCP() Option {
	return func(o *options) error {
		o.tcp = true
		return nil
	}
}

// Persistent makes the server a development database that survives restarts: its data directory is dir, created by initdb
// when it doesn't exist or is empty, and its durability settings are PostgreSQL's own. Starting fails when dir is used by
// another running server, holds something else, or was made by another major version. A relative dir counts from the working directory
// at the time of the call.
func Persistent(dir string) Option {
	return func(o *options) error {
		if dir == "" {
			return errors.New("persistent: the directory is empty")
		}
		abs, err := filepath.Abs(dir)
		if err != nil {
			return fmt.Errorf("persistent: %w", err)
		}
		if o.persistent != "" && o.persistent != abs {
			return fmt.Errorf("persistent is given twice, as %s and as %s", o.persistent, abs)
		}
		o.persistent = abs
		return nil
	}
}

// TempDir makes dir the place in which the server's own directory (data unless [Persistent], socket, log) is created, instead of
// /dev/shm or the temp directory. It must exist, be writable, and be short: a socket path has at most about 100 bytes.
func TempDir(dir string) Option {
	return func(o *options) error {
		if dir == "" {
			return errors.New("temp dir: the directory is empty")
		}
		abs, err := filepath.Abs(dir)
		if err != nil {
			return fmt.Errorf("temp dir: %w", err)
		}
		if o.tempDir != "" && o.tempDir != abs {
			return fmt.Errorf("temp dir is given twice, as %s and as %s", o.tempDir, abs)
		}
		o.tempDir = abs
		return nil
	}
}

// RemoveWhenOrphaned makes the server's keeper remove these files and directories, with all that is in them, once the process that
// started the server has ended without stopping it, however it ended. It is for a [Persistent] directory that nobody wants any
// longer then, a test's for example; a server that has such a directory is stopped without sparing it the recovery. Relative
// paths count from the working directory at the time of the call. Of a [Shared] server nobody is the owner: there it is an error.
func RemoveWhenOrphaned(paths ...string) Option {
	return func(o *options) error {
		for _, path := range paths {
			abs, err := filepath.Abs(path)
			if err != nil {
				return fmt.Errorf("remove when orphaned: %w", err)
			}
			if path == "" || filepath.Dir(abs) == abs {
				return fmt.Errorf("remove when orphaned: %q is not to be removed", path)
			}
			o.orphaned = append(o.orphaned, abs)
		}
		return nil
	}
}

// Logger makes the server report its start and an unexpected end to log. The default logs nothing; in Fx it is the
// application's logger, named "embedded".
func Logger(log *zap.Logger) Option {
	return func(o *options) error {
		if log == nil {
			return errors.New("logger is nil")
		}
		o.logger, o.logs = log, true
		return nil
	}
}

// collect applies opts and reports everything that is wrong with them at once.
func collect(opts []Option) (options, error) {
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
	if o.logger == nil {
		o.logger = zap.NewNop()
	}
	return o, nil
}

// shapes names the options that can't apply to a server that somebody else runs.
func (o options) shapes() []string {
	var names []string
	if o.tcp {
		names = append(names, "TCP")
	}
	if o.persistent != "" {
		names = append(names, "Persistent")
	}
	if len(o.orphaned) > 0 {
		names = append(names, "RemoveWhenOrphaned")
	}
	for _, name := range slices.Sorted(maps.Keys(o.settings)) {
		names = append(names, "Setting("+name+")")
	}
	return names
}

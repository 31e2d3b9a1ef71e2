package embedded

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// lookTime bounds each of the small programs that are asked for their version or place.
const lookTime = 10 * time.Second

// installation is a directory with the programs of one PostgreSQL version.
type installation struct {
	// BinDir is where the programs really are.
	BinDir string `json:"bin_dir"`
	// Version is what postgres --version prints.
	Version string `json:"version"`
	Major   int    `json:"major"`
	Minor   int    `json:"minor"`
	// Identity changes when the program does: its size and modification time.
	Identity string `json:"identity"`
}

// program returns the path of one of the installation's programs.
func (i installation) program(name string) string { return filepath.Join(i.BinDir, executable(name)) }

func executable(name string) string {
	if runtime.GOOS == "windows" {
		return name + ".exe"
	}
	return name
}

// place is somewhere programs may be installed: what to call it, and how to list its directories.
type place struct {
	name string
	dirs func() (dirs []string, nothing string)
}

// places lists where PostgreSQL is installed on the systems we know.
func places(env lookup) []place {
	list := []place{pathPlace(env("PATH")), pgConfigPlace()}
	for _, pattern := range patterns(runtime.GOOS, env) {
		list = append(list, globPlace(pattern))
	}
	return list
}

// patterns lists the directories that the packages of an operating system use.
func patterns(goos string, env lookup) []string {
	switch goos {
	case "darwin":
		return []string{
			"/opt/homebrew/opt/postgresql*/bin", // Homebrew on Apple silicon
			"/usr/local/opt/postgresql*/bin",    // Homebrew on Intel
			"/Applications/Postgres.app/Contents/Versions/*/bin",
			"/Library/PostgreSQL/*/bin",      // EDB installer
			"/opt/local/lib/postgresql*/bin", // MacPorts
		}
	case "windows":
		return []string{filepath.Join(cmp.Or(env("ProgramFiles"), `C:\Program Files`), `PostgreSQL\*\bin`)}
	default:
		return []string{
			"/usr/lib/postgresql/*/bin", // Debian, Ubuntu
			"/usr/pgsql-*/bin",          // Red Hat family, PGDG packages
			"/usr/lib/postgresql*/bin",  // SUSE
			"/usr/libexec/postgresql*",  // Alpine
			"/usr/local/pgsql*/bin",     // built from source
			"/home/linuxbrew/.linuxbrew/opt/postgresql*/bin",
		}
	}
}

// pathPlace offers the directories of PATH that have a postgres program.
func pathPlace(path string) place {
	return place{name: "PATH", dirs: func() ([]string, string) {
		var dirs []string
		for _, dir := range filepath.SplitList(path) {
			if _, err := os.Stat(filepath.Join(dir, executable("postgres"))); dir != "" && err == nil {
				dirs = append(dirs, dir)
			}
		}
		return dirs, "no program postgres in " + path
	}}
}

func pgConfigPlace() place {
	return place{name: "pg_config --bindir", dirs: func() ([]string, string) {
		program, err := exec.LookPath("pg_config")
		if err != nil {
			return nil, "no program pg_config in PATH"
		}
		out, err := ask(program, "--bindir")
		if err != nil {
			return nil, err.Error()
		}
		return []string{out}, ""
	}}
}

func globPlace(pattern string) place {
	return place{name: pattern, dirs: func() ([]string, string) {
		dirs, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err.Error()
		}
		return dirs, "no such directory"
	}}
}

// byPlaces takes the newest usable installation; of equal versions, the one found first.
func byPlaces(list []place) (target, bool, string, error) {
	var (
		found    []installation
		seen     = make(map[string]bool)
		accounts strings.Builder
	)
	for _, place := range list {
		dirs, nothing := place.dirs()
		if len(dirs) == 0 {
			fmt.Fprintf(&accounts, "\n     - %s: %s", place.name, nothing)
		}
		for _, dir := range dirs {
			if seen[dir] {
				continue
			}
			seen[dir] = true
			install, err := inspect(dir)
			if err != nil {
				fmt.Fprintf(&accounts, "\n     - %s: %s: %s", place.name, dir, err)
				continue
			}
			seen[install.BinDir] = true
			found = append(found, install)
		}
	}
	if len(found) == 0 {
		return target{}, false, accounts.String(), nil
	}
	slices.SortStableFunc(found, func(a, b installation) int {
		return cmp.Or(cmp.Compare(b.Major, a.Major), cmp.Compare(b.Minor, a.Minor))
	})
	return target{install: found[0]}, true, "", nil
}

// inspect tells what is installed in dir, or why it can't be used.
func inspect(dir string) (installation, error) {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return installation{}, errors.New("no such directory")
	case err != nil:
		return installation{}, err
	case !info.IsDir():
		return installation{}, errors.New("not a directory")
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return installation{}, err
	}
	for _, name := range []string{"initdb", "postgres"} {
		if info, err = os.Stat(filepath.Join(dir, executable(name))); err != nil {
			return installation{}, fmt.Errorf("no program %s in it (is only the client installed?)", name)
		}
	}
	// A directory of PATH often holds links to the programs, and the same installation is found in several ways.
	if place, err := filepath.EvalSymlinks(filepath.Join(dir, executable("postgres"))); err == nil {
		if _, err := os.Stat(filepath.Join(filepath.Dir(place), executable("initdb"))); err == nil {
			dir = filepath.Dir(place)
		}
	}
	text, err := ask(filepath.Join(dir, executable("postgres")), "--version")
	if err != nil {
		return installation{}, err
	}
	major, minor, err := parseVersion(text)
	if err != nil {
		return installation{}, err
	}
	return installation{
		BinDir: dir, Version: text, Major: major, Minor: minor,
		Identity: fmt.Sprintf("%d-%d", info.Size(), info.ModTime().UnixNano()),
	}, nil
}

var versionText = regexp.MustCompile(`\(PostgreSQL\) (\d+)(?:\.(\d+))?`)

// parseVersion reads "postgres (PostgreSQL) 15.18 (Debian …)"; development versions such as 19devel have no minor one.
func parseVersion(text string) (major, minor int, err error) {
	parts := versionText.FindStringSubmatch(text)
	if parts == nil {
		return 0, 0, fmt.Errorf("postgres --version says %q, which is no PostgreSQL version", text)
	}
	major, err = strconv.Atoi(parts[1])
	if err != nil {
		return 0, 0, fmt.Errorf("postgres --version says %q: %w", text, err)
	}
	if parts[2] != "" {
		minor, err = strconv.Atoi(parts[2])
	}
	return major, minor, err
}

// ask runs a program for the one line that it prints.
func ask(program, arg string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), lookTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, arg) //nolint:gosec // one of the programs that are looked for
	cmd.Env = serverEnviron(os.Environ())
	cmd.WaitDelay = time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		if text := strings.TrimSpace(stderr.String()); text != "" {
			return "", fmt.Errorf("%s %s: %w: %s", program, arg, err, text)
		}
		return "", fmt.Errorf("%s %s: %w", program, arg, err)
	}
	return strings.TrimSpace(string(out)), nil
}

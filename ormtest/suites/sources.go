package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// sources are the modules whose suites run. Their key is the directory of the copy.
func sources() map[string]string {
	return map[string]string{
		"pgx": "github.com/jackc/pgx/v5", "river": "github.com/riverqueue/river", "rivershared": "github.com/riverqueue/river/rivershared",
	}
}

// prepare copies the modules into dir, with a workspace that uses the copies. If ours is set, their pools are those of a pgfx.DB.
func prepare(ctx context.Context, dir string, ours bool) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	root, err := output(ctx, "go", "list", "-m", "-f={{.Dir}}", "github.com/rdsfx-go/rdsfx")
	if err != nil {
		return err
	}
	uses := []string{root, filepath.Join(root, "ormtest")}
	for name, module := range sources() {
		downloaded, err := output(ctx, "go", "mod", "download", "-json", module)
		if err != nil {
			return err
		}
		var found struct {
			Dir string `json:"Dir"` //nolint:tagliatelle // of the go command
		}
		if err := json.Unmarshal([]byte(downloaded), &found); err != nil {
			return fmt.Errorf("go mod download %s: %w", module, err)
		}
		if err := os.CopyFS(filepath.Join(dir, name), os.DirFS(found.Dir)); err != nil {
			return err
		}
		uses = append(uses, "./"+name)
	}
	work := "go 1.26.0\n\nuse (\n\t" + strings.Join(uses, "\n\t") + "\n)\n"
	if err := os.WriteFile(filepath.Join(dir, "go.work"), []byte(work), 0o600); err != nil {
		return err
	}
	sums, err := os.ReadFile(filepath.Join(root, "go.work.sum"))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "go.work.sum"), sums, 0o600)
	}
	if err != nil || !ours {
		return err
	}
	return replacePools(dir)
}

// output returns what a command prints.
func output(ctx context.Context, name string, args ...string) (string, error) {
	text, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(text)), nil
}

// replacePools replaces the construction of pools in the tests, and in River's package for tests.
func replacePools(dir string) error {
	return filepath.WalkDir(dir, func(file string, entry fs.DirEntry, err error) error {
		isTest := strings.HasSuffix(file, "_test.go") || strings.HasSuffix(file, ".go") && filepath.Base(filepath.Dir(file)) == "riversharedtest"
		if err != nil || entry.IsDir() || !isTest {
			return err
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		changed := replacePool(string(text), !strings.HasPrefix(file, filepath.Join(dir, "pgx")))
		if changed == string(text) {
			return nil
		}
		return os.WriteFile(file, []byte(changed), 0o600)
	})
}

var (
	constructor = regexp.MustCompile(`\bpgxpool\.(New|NewWithConfig)\(`)
	// poolConfig is where River reads the configuration of a pool for another one. The hooks of a DB are only for its own pool.
	poolConfig = regexp.MustCompile(`(\b[pP]ool|\b\w*\.?dbPool|riversharedtest\.DBPool\(ctx, t\))\.Config\(\)`)
)

// replacePool replaces the calls in a file of Go.
func replacePool(text string, configs bool) string {
	changed := constructor.ReplaceAllString(text, "suitepool.$1(")
	if configs {
		changed = poolConfig.ReplaceAllString(changed, "suitepool.ConfigOf($1)")
	}
	if changed == text {
		return text
	}
	changed = strings.Replace(changed, "import (", "import (\n\tsuitepool \"github.com/rdsfx-go/rdsfx/ormtest/suites/pool\"\n", 1)
	if strings.Contains(changed, "/pgxpool\"") {
		changed += "\nvar _ *pgxpool.Pool\n"
	}
	return changed
}

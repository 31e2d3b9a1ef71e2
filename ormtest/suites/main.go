// Suites runs the test suites of other modules on the pool of a pgfx.DB, and beside that on plain pgxpool. These are pgxpool's own suite,
// and River's suites of the client, the leadership and the notifier.
//
//	cd ormtest && go run ./suites            (make suites)
//	cd ormtest && go run ./suites -run River -keep
//
// It copies the modules from Go's module cache to a temporary directory. In the copy for our pool, it replaces the calls of pgxpool's
// constructors by those of package pool. Nothing else is changed, and nothing of these modules is kept.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

// suite is a suite of another module.
type suite struct {
	name    string
	dir     string   // of its package, below the temporary directory
	run     string   // a regular expression, "" for all
	skipped []reason // tests that don't apply to our pool
}

// reason is why a test does not apply.
type reason struct{ test, why string }

func main() {
	run := flag.String("run", "", "regular expression for the names of suites")
	keep := flag.Bool("keep", false, "keep the temporary directory")
	timeout := flag.Duration("timeout", 10*time.Minute, "limit of one suite")
	flag.Parse()
	if err := runAll(*run, *keep, *timeout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func runAll(names string, keep bool, timeout time.Duration) error {
	selected, err := regexp.Compile(names)
	if err != nil {
		return err
	}
	ctx := context.Background()
	temp, err := os.MkdirTemp("", "rdsfx-suites-")
	if err != nil {
		return err
	}
	if keep {
		fmt.Println("sources:", temp)
	} else {
		defer func() { _ = os.RemoveAll(temp) }()
	}
	server, err := embedded.Start(ctx, embedded.Setting("max_connections", "300"))
	if err != nil {
		return err
	}
	defer func() { _ = server.Stop(ctx) }()
	fmt.Print("| suite | pgxpool | rdsfx | not applicable |\n|---|---|---|---|\n")
	var failed error
	for _, s := range suites() {
		if !selected.MatchString(s.name) {
			continue
		}
		plain, err := s.test(ctx, filepath.Join(temp, "plain"), server.URL(), timeout, false)
		failed = errors.Join(failed, err)
		ours, err := s.test(ctx, filepath.Join(temp, "rdsfx"), server.URL(), timeout, true)
		failed = errors.Join(failed, err)
		fmt.Printf("| %s | %s | %s | %d tests |\n", s.name, plain, ours, len(s.skipped))
	}
	fmt.Println()
	for _, s := range suites() {
		for _, r := range s.skipped {
			fmt.Printf("%s, %s: %s\n", s.name, r.test, r.why)
		}
	}
	return failed
}

// test runs a suite in a new database. It returns how long the tests took and how many passed.
func (s suite) test(ctx context.Context, dir, admin string, timeout time.Duration, ours bool) (string, error) {
	if err := prepare(ctx, dir, ours); err != nil {
		return "", err
	}
	database, err := newDatabase(ctx, admin, fmt.Sprintf("suite_%d", time.Now().UnixNano()))
	if err != nil {
		return "", err
	}
	args := []string{"test", "-count=1", "-v", "-timeout=" + timeout.String(), "-run=" + s.run}
	if ours && len(s.skipped) > 0 {
		args = append(args, "-skip="+strings.Join(s.skippedTests(), "|"))
	}
	command := exec.CommandContext(ctx, "go", append(args, ".")...)
	command.Dir = filepath.Join(dir, s.dir)
	command.Env = append(os.Environ(), "GOWORK="+filepath.Join(dir, "go.work"), "PGX_TEST_DATABASE="+database, "TEST_DATABASE_URL="+database)
	output, err := command.CombinedOutput()
	text := string(output)
	took := regexp.MustCompile(`(?m)^(?:ok|FAIL)\s+\S+\s+([\d.]+)s`).FindStringSubmatch(text)
	passed := len(regexp.MustCompile(`(?m)^--- PASS`).FindAllString(text, -1))
	if err != nil {
		failures := regexp.MustCompile(`(?m)^--- FAIL: (\S+)`).FindAllStringSubmatch(text, -1)
		list := make([]string, len(failures))
		for i, failure := range failures {
			list[i] = failure[1]
		}
		log := filepath.Join(os.TempDir(), "rdsfx-suite-"+filepath.Base(dir)+"-"+strings.ReplaceAll(s.name, " ", "-")+".log")
		err = fmt.Errorf("%s (rdsfx: %t): %w: %v; output: %s", s.name, ours, err, list, log)
		return "failed", errors.Join(err, os.WriteFile(log, output, 0o600))
	}
	if took == nil {
		return "", fmt.Errorf("%s: no result in %q", s.name, text)
	}
	return fmt.Sprintf("%s s, %d tests", took[1], passed), nil
}

// skippedTests returns regular expressions for the tests that do not apply, as go test -skip takes them.
func (s suite) skippedTests() []string {
	var tests []string
	for _, r := range s.skipped {
		tests = append(tests, "^"+strings.ReplaceAll(r.test, "/", "$/^")+"$")
	}
	return tests
}

// newDatabase creates a database and returns its URL.
func newDatabase(ctx context.Context, admin, name string) (string, error) {
	conn, err := pgx.Connect(ctx, admin)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, "create database "+name); err != nil {
		return "", err
	}
	address, err := url.Parse(admin)
	if err != nil {
		return "", err
	}
	address.Path = "/" + name
	return address.String(), nil
}

package main

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
	"go.yaml.in/yaml/v3"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// Config is the configuration of the service. The file config.yaml in this directory shows all of it.
type Config struct {
	Addr     string        `env:"ADDR"           yaml:"addr"` // host and port of the HTTP server
	Workers  WorkerConfig  `envPrefix:"WORKERS_" yaml:"workers"`
	Cleanup  CleanupConfig `envPrefix:"CLEANUP_" yaml:"cleanup"`
	Database pgfx.Config   `env:"-"              yaml:"database"` // the library completes it by the variables DATABASE_…
	// Reporting is the address of the database for GET /v1/report, for example of a replica. Without it, reports use Database.
	Reporting string `env:"REPORTING_DATABASE_URL" yaml:"reporting"`
}

func defaultConfig() Config {
	return Config{
		Addr:    "127.0.0.1:8080",
		Workers: WorkerConfig{Count: 2, Lease: 30 * time.Second, Poll: 5 * time.Second, MaxAttempts: 5, Backoff: time.Second},
		Cleanup: CleanupConfig{Every: time.Minute, Keep: 30 * 24 * time.Hour},
	}
}

const usage = `Usage: jobservice [-config FILE] [-addr HOST:PORT]

An HTTP service that keeps users, jobs and the metadata of files in PostgreSQL.
Without an address of a database it starts a temporary local server.

`

const variables = `
Variables. The first of flag, variable and file counts. For the keys of database, the file counts before variables:
  ADDR                     host and port of the HTTP server
  WORKERS_COUNT            workers of this process; 0 to serve requests only
  WORKERS_LEASE            a job without progress for this long is claimed by another worker
  WORKERS_POLL             the longest wait for a notification that was missed
  WORKERS_MAX_ATTEMPTS     a job fails after this many attempts
  WORKERS_BACKOFF          the wait after the first failed attempt; it doubles with each
  CLEANUP_EVERY            pause between two clean-ups
  CLEANUP_KEEP             age at which finished jobs and deleted users are removed
  DATABASE_URL             the address of the database
  DATABASE_PASSWORD_FILE   a file with the password
  REPORTING_DATABASE_URL   the address for GET /v1/report, for example of a replica; by default the same database
docs/configuration.md lists all variables of databases.
`

// readConfig returns the configuration of a command line. It prints the help to out.
func readConfig(args []string, out io.Writer) (Config, error) {
	config := defaultConfig()
	flags := flag.NewFlagSet("jobservice", flag.ContinueOnError)
	flags.SetOutput(out)
	file := flags.String("config", "", "YAML file with the configuration")
	addr := flags.String("addr", "", "host and port of the HTTP server (default "+config.Addr+")")
	flags.Usage = func() {
		_, _ = io.WriteString(out, usage)
		flags.PrintDefaults()
		_, _ = io.WriteString(out, variables)
	}
	if err := flags.Parse(args); err != nil {
		return config, err
	}
	if flags.NArg() > 0 {
		return config, fmt.Errorf("unexpected arguments: %s", strings.Join(flags.Args(), " "))
	}
	if *file != "" {
		text, err := os.ReadFile(*file)
		if err != nil {
			return config, err
		}
		decoder := yaml.NewDecoder(bytes.NewReader(text))
		decoder.KnownFields(true)
		if err := decoder.Decode(&config); err != nil && !errors.Is(err, io.EOF) {
			return config, fmt.Errorf("%s: %w", *file, err)
		}
	}
	if err := env.Parse(&config); err != nil {
		return config, err
	}
	config.Addr = cmp.Or(*addr, config.Addr)
	return config, nil
}

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

	"go.yaml.in/yaml/v3"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// Config is the configuration of the service. The file config.yaml in this directory shows all of it.
type Config struct {
	Addr     string        `yaml:"addr"` // host and port of the HTTP server
	Workers  WorkerConfig  `yaml:"workers"`
	Cleanup  CleanupConfig `yaml:"cleanup"`
	Database pgfx.Config   `yaml:"database"` // completed by the variables DATABASE_…
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
Variables complete the file:
  ADDR                     host and port of the HTTP server
  DATABASE_URL             the address
  DATABASE_PASSWORD_FILE   a file with the password
  REPORTING_DATABASE_URL   the address for GET /v1/report, for example of a replica
docs/configuration.md lists all of them.
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
	config.Addr = cmp.Or(*addr, os.Getenv("ADDR"), config.Addr)
	return config, nil
}

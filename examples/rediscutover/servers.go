package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rdsfx-go/rdsfx/internal/testredis"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

// servers are the two servers of the example. They end with the process, in whatever way it ends.
type servers struct {
	redis                 *testredis.Server
	postgres              *embedded.Server
	redisURL, databaseURL string
}

func startServers(ctx context.Context) (_ *servers, err error) {
	s := &servers{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop())
		}
	}()
	if s.redis, err = testredis.Start(ctx); err != nil {
		return nil, err
	}
	if s.postgres, err = embedded.Start(ctx); err != nil {
		return nil, err
	}
	s.redisURL, s.databaseURL = "unix://"+s.redis.Address(), s.postgres.URL()
	return s, os.WriteFile(addressFile(), []byte(s.redisURL+"\n"+s.databaseURL+"\n"), 0o600)
}

func (s *servers) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var errs []error
	if s.postgres != nil {
		errs = append(errs, s.postgres.Stop(ctx), os.Remove(addressFile()))
	}
	if s.redis != nil {
		errs = append(errs, s.redis.Stop())
	}
	return errors.Join(errs...)
}

// addressFile holds the addresses of the servers for the commands in other terminals.
func addressFile() string { return filepath.Join(os.TempDir(), "rdsfx-rediscutover.addresses") }

// addresses returns the addresses of the servers that a command uses.
func addresses() (redisURL, databaseURL string, err error) {
	redisURL, databaseURL = os.Getenv("REDIS_URL"), os.Getenv("DATABASE_URL")
	if redisURL != "" && databaseURL != "" {
		return redisURL, databaseURL, nil
	}
	text, err := os.ReadFile(addressFile())
	if err != nil {
		return "", "", errors.New("start the example in another terminal (go run ./examples/rediscutover -manual), or set REDIS_URL and DATABASE_URL")
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) < 2 {
		return "", "", fmt.Errorf("%s is incomplete", addressFile())
	}
	return lines[0], lines[1], nil
}

package fxtest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	databasePrefix = "rdsfx_t_"
	// staleAfter is the age at which an unused database of another host is dropped.
	staleAfter = 6 * time.Hour
)

// newDatabaseName returns a unique name that identifies the owner of the database, so databases of killed processes can be
// found later: rdsfx_t_<host>_<process>_<Unix seconds>_<random>.
func newDatabaseName(now time.Time) string {
	return fmt.Sprintf("%s%s_%d_%d_%s", databasePrefix, hostTag(), os.Getpid(), now.Unix(), strings.ToLower(rand.Text()[:8]))
}

// hostTag returns a short hash of the host's name.
func hostTag() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	sum := sha256.Sum256([]byte(host))
	return hex.EncodeToString(sum[:3])
}

// isStale reports whether the process that owns a database has exited, or the database is older than staleAfter.
func isStale(name string, host string, alive func(pid int) bool, now time.Time) bool {
	parts := strings.Split(strings.TrimPrefix(name, databasePrefix), "_")
	if !strings.HasPrefix(name, databasePrefix) || len(parts) != 4 {
		return false
	}
	pid, pidErr := strconv.Atoi(parts[1])
	created, createdErr := strconv.ParseInt(parts[2], 10, 64)
	if pidErr != nil || createdErr != nil {
		return false
	}
	if parts[0] == host && !alive(pid) {
		return true
	}
	return now.Sub(time.Unix(created, 0)) > staleAfter
}

// dropStaleDatabases drops stale databases of tests, except those with open connections.
func dropStaleDatabases(ctx context.Context, adminURL string) error {
	admin, err := connect(ctx, adminURL)
	if err != nil {
		return err
	}
	defer func() { _ = admin.Close(context.WithoutCancel(ctx)) }() // no longer needed
	rows, err := admin.Query(ctx, `select datname from pg_database d where datname like $1 || '%'
		and not exists (select from pg_stat_activity a where a.datname = d.datname)`, strings.ReplaceAll(databasePrefix, "_", `\_`))
	if err != nil {
		return fmt.Errorf("list stale databases: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("list stale databases: %w", err)
	}
	for _, name := range names {
		if isStale(name, hostTag(), processAlive, time.Now()) {
			// This fails if another process has dropped the database, or a client has connected to it, in the meantime.
			_, _ = admin.Exec(ctx, "drop database if exists "+quote(name))
		}
	}
	return nil
}

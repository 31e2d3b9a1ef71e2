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

// A database's name tells whose it is, so that what a killed process left behind on a server that lives on can be told
// from what is in use: rdsfx_t_<host>_<process>_<seconds since 1970>_<random>.

// staleAfter is the age at which a database of another host is dropped when nobody is connected to it.
const staleAfter = 6 * time.Hour

func databaseName(now time.Time) string {
	return fmt.Sprintf("%s%s_%d_%d_%s", databasePrefix, hostTag(), os.Getpid(), now.Unix(), strings.ToLower(rand.Text()[:8]))
}

// hostTag stands for this host in names.
func hostTag() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	sum := sha256.Sum256([]byte(host))
	return hex.EncodeToString(sum[:3])
}

// isStale reports whether the owner of a database is known to be dead, or the database so old that it must be.
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

// sweep drops databases whose owner has died. Databases that somebody is connected to are left alone, whoever it is.
func sweep(ctx context.Context, adminURL string) error {
	admin, err := connectAdmin(ctx, adminURL)
	if err != nil {
		return err
	}
	defer func() { _ = admin.Close(context.WithoutCancel(ctx)) }() // it has served its purpose
	rows, err := admin.Query(ctx, `select datname from pg_database d where datname like $1 || '%'
		and not exists (select from pg_stat_activity a where a.datname = d.datname)`, strings.ReplaceAll(databasePrefix, "_", `\_`))
	if err != nil {
		return fmt.Errorf("look for stale databases: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("look for stale databases: %w", err)
	}
	for _, name := range names {
		if !isStale(name, hostTag(), processAlive, time.Now()) {
			continue
		}
		// Another janitor may be faster, and somebody may have connected by now: both are fine.
		_, _ = admin.Exec(ctx, "drop database if exists "+quote(name))
	}
	return nil
}

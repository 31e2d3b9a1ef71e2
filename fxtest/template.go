package fxtest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
)

// EnvRebuild makes the first use of each template in a process build it anew.
const EnvRebuild = "RDSFX_TEST_REBUILD"

const (
	templatePrefix = "rdsfx_tpl_"
	// emptyTemplate is what a test without migrations is cloned from.
	emptyTemplate = "template0"
	// hashLength keeps names far below the server's limit of 63 bytes, with room to be unique.
	hashLength = 24
)

// key names the template for these settings: whatever makes a difference for what is in it is in the hash.
func (s settings) key(serverVersion string) string {
	hash := sha256.New()
	add := func(kind, text string) { _, _ = fmt.Fprintf(hash, "%s %d\n%s\n", kind, len(text), text) }
	add("server", serverVersion)
	add("salt", s.salt)
	for _, name := range s.extensions {
		add("extension", name)
	}
	for _, m := range slices.Concat(s.migrations, s.seeds) {
		add("migration", m.name)
		add("text", m.hash)
	}
	return templatePrefix + hex.EncodeToString(hash.Sum(nil))[:hashLength]
}

// template returns the name of the template for these settings and builds it where it doesn't exist yet. Processes that
// want the same one at the same time wait for the one that builds.
func template(ctx context.Context, admin *pgx.Conn, s settings) (string, error) {
	if !s.hasTemplate() {
		return emptyTemplate, nil
	}
	name := s.key(admin.PgConn().ParameterStatus("server_version"))
	rebuild := os.Getenv(EnvRebuild) != "" && rebuilt.first(name)
	if !rebuild {
		if ready, err := isReady(ctx, admin, name); ready || err != nil {
			return name, err
		}
	}
	// The lock lives as long as its connection, so that a builder that dies frees it.
	if _, err := admin.Exec(ctx, "select pg_advisory_lock(hashtextextended($1, 0))", name); err != nil {
		return "", fmt.Errorf("lock template %s: %w", name, err)
	}
	err := buildLocked(ctx, admin, name, s, rebuild)
	_, unlockErr := admin.Exec(context.WithoutCancel(ctx), "select pg_advisory_unlock(hashtextextended($1, 0))", name)
	if err := errors.Join(err, unlockErr); err != nil {
		return "", err
	}
	return name, nil
}

func buildLocked(ctx context.Context, admin *pgx.Conn, name string, s settings, rebuild bool) error {
	if !rebuild {
		if ready, err := isReady(ctx, admin, name); ready || err != nil {
			return err
		}
	}
	if err := dropTemplate(ctx, admin, name); err != nil { // half-built by somebody who died
		return err
	}
	if _, err := admin.Exec(ctx, "create database "+quote(name)+" template template0"+strategy(admin)); err != nil {
		return fmt.Errorf("create template %s: %w", name, permissionHint(err))
	}
	if err := fill(ctx, admin, name, s); err != nil {
		return errors.Join(err, dropTemplate(context.WithoutCancel(ctx), admin, name))
	}
	if _, err := admin.Exec(ctx, "alter database "+quote(name)+" with is_template true allow_connections false"); err != nil {
		return fmt.Errorf("mark template %s ready: %w", name, err)
	}
	return nil
}

// fill runs extensions and migrations in the template.
func fill(ctx context.Context, admin *pgx.Conn, name string, s settings) error {
	cc := admin.Config()
	cc.Database = name
	conn, err := pgx.ConnectConfig(ctx, cc)
	if err != nil {
		return fmt.Errorf("connect to template %s: %w", name, err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // it has served its purpose
	for _, extension := range s.extensions {
		if _, err := conn.Exec(ctx, "create extension if not exists "+quote(extension)+" cascade"); err != nil {
			return fmt.Errorf("extension %s: %w", extension, err)
		}
	}
	for _, m := range slices.Concat(s.migrations, s.seeds) {
		if err := m.run(ctx, conn); err != nil {
			return fmt.Errorf("migration %w", err)
		}
	}
	return nil
}

// isReady reports whether the template exists and is complete: the two flags are set last.
func isReady(ctx context.Context, admin *pgx.Conn, name string) (bool, error) {
	var ready bool
	err := admin.QueryRow(ctx, "select exists (select from pg_database where datname = $1 and datistemplate and not datallowconn)", name).Scan(&ready)
	if err != nil {
		return false, fmt.Errorf("look for template %s: %w", name, err)
	}
	return ready, nil
}

func dropTemplate(ctx context.Context, admin *pgx.Conn, name string) error {
	var exists bool
	if err := admin.QueryRow(ctx, "select exists (select from pg_database where datname = $1)", name).Scan(&exists); err != nil {
		return fmt.Errorf("look for template %s: %w", name, err)
	}
	if !exists {
		return nil
	}
	for _, statement := range []string{
		"alter database " + quote(name) + " with is_template false",
		"drop database if exists " + quote(name) + " with (force)",
	} {
		if _, err := admin.Exec(ctx, statement); err != nil {
			return fmt.Errorf("drop template %s: %w", name, err)
		}
	}
	return nil
}

// strategy asks for a copy of files, which is the fastest way for databases as small as a test's. It is what PostgreSQL
// did before 15, where the choice was introduced.
func strategy(conn *pgx.Conn) string {
	version := conn.PgConn().ParameterStatus("server_version")
	if strings.HasPrefix(version, "14") || strings.HasPrefix(version, "13") {
		return ""
	}
	return " strategy file_copy"
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

func pgError(err error) *pgconn.PgError {
	pg, _ := errors.AsType[*pgconn.PgError](err)
	return pg
}

func permissionHint(err error) error {
	if sqlstate.Code(err) == sqlstate.InsufficientPrivilege {
		return fmt.Errorf("%w: give the role the attribute CREATEDB", err)
	}
	return err
}

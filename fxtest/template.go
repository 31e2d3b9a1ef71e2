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
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
)

// EnvRebuild names the variable that makes each process rebuild each template once.
const EnvRebuild = "RDSFX_TEST_REBUILD"

const (
	templatePrefix = "rdsfx_tpl_"
	// emptyTemplate is the template of tests without migrations.
	emptyTemplate = "template0"
	// hashLength is the number of hash characters in a template's name, which PostgreSQL limits to 63 bytes.
	hashLength = 24
)

var rebuilt sync.Map //nolint:gochecknoglobals // names of the templates that this process has rebuilt

// templateName returns the name of the template: a hash of everything that determines its content.
func (s settings) templateName(serverVersion string) string {
	hash := sha256.New()
	add := func(kind, text string) { _, _ = fmt.Fprintf(hash, "%s %d\n%s\n", kind, len(text), text) }
	add("server", serverVersion)
	add("salt", s.salt)
	for _, name := range s.extensions {
		add("extension", name)
	}
	for _, m := range slices.Concat(s.migrations, s.seeds) {
		add("migration", m.name)
		add("text", m.content)
	}
	return templatePrefix + hex.EncodeToString(hash.Sum(nil))[:hashLength]
}

// prepareTemplate returns the name of the template for these settings and builds it if necessary. An advisory lock makes
// other processes wait until it is built.
func prepareTemplate(ctx context.Context, admin *pgx.Conn, s settings) (string, error) {
	if !s.hasTemplate() {
		return emptyTemplate, nil
	}
	name := s.templateName(admin.PgConn().ParameterStatus("server_version"))
	rebuild := false
	if os.Getenv(EnvRebuild) != "" {
		_, done := rebuilt.LoadOrStore(name, true)
		rebuild = !done
	}
	if !rebuild {
		if ready, err := isReady(ctx, admin, name); ready || err != nil {
			return name, err
		}
	}
	// The session owns the lock, so a process that is killed releases it.
	if _, err := admin.Exec(ctx, "select pg_advisory_lock(hashtextextended($1, 0))", name); err != nil {
		return "", fmt.Errorf("lock template %s: %w", name, err)
	}
	err := buildTemplate(ctx, admin, name, s, rebuild)
	_, unlockErr := admin.Exec(context.WithoutCancel(ctx), "select pg_advisory_unlock(hashtextextended($1, 0))", name)
	if err := errors.Join(err, unlockErr); err != nil {
		return "", err
	}
	return name, nil
}

// buildTemplate builds the template unless it exists or rebuild is set. The caller must hold the template's lock.
func buildTemplate(ctx context.Context, admin *pgx.Conn, name string, s settings, rebuild bool) error {
	if !rebuild {
		if ready, err := isReady(ctx, admin, name); ready || err != nil {
			return err
		}
	}
	if err := dropTemplate(ctx, admin, name); err != nil { // incomplete if its process was killed
		return err
	}
	if _, err := admin.Exec(ctx, "create database "+quote(name)+" template template0"+copyStrategy(admin)); err != nil {
		return fmt.Errorf("create template %s: %w", name, permissionHint(err))
	}
	if err := migrate(ctx, admin, name, s); err != nil {
		return errors.Join(err, dropTemplate(context.WithoutCancel(ctx), admin, name))
	}
	if _, err := admin.Exec(ctx, "alter database "+quote(name)+" with is_template true allow_connections false"); err != nil {
		return fmt.Errorf("mark template %s ready: %w", name, err)
	}
	return nil
}

// migrate creates the extensions in the template, then applies the migrations and the seeds.
func migrate(ctx context.Context, admin *pgx.Conn, template string, s settings) error {
	cc := admin.Config()
	cc.Database = template
	conn, err := pgx.ConnectConfig(ctx, cc)
	if err != nil {
		return fmt.Errorf("connect to template %s: %w", template, err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // no longer needed
	for _, extension := range s.extensions {
		if _, err := conn.Exec(ctx, "create extension if not exists "+quote(extension)+" cascade"); err != nil {
			return fmt.Errorf("extension %s: %w", extension, err)
		}
	}
	for _, m := range slices.Concat(s.migrations, s.seeds) {
		if err := m.run(ctx, conn); err != nil {
			return fmt.Errorf("migration %w", err)
		}
		if err := cleanSession(ctx, conn); err != nil {
			return fmt.Errorf("migration %s: %w", m.name, err)
		}
	}
	return nil
}

// cleanSession discards the settings of a session, so that the next file does not depend on them. Dumps of pg_dump, for
// example, empty the search path.
func cleanSession(ctx context.Context, conn *pgx.Conn) error {
	if conn.PgConn().TxStatus() != statusIdle {
		return errors.New("it leaves a transaction open: end it with COMMIT, or remove its BEGIN")
	}
	if err := conn.DeallocateAll(ctx); err != nil {
		return fmt.Errorf("clean the session: %w", err)
	}
	if _, err := conn.Exec(ctx, "discard all"); err != nil {
		return fmt.Errorf("clean the session: %w", err)
	}
	return nil
}

// statusIdle is the transaction status of a connection outside a transaction (PostgreSQL manual, "Message Formats").
const statusIdle = 'I'

// isReady reports whether the template exists and is complete. The two flags are set in the last step of a build.
func isReady(ctx context.Context, admin *pgx.Conn, name string) (bool, error) {
	var ready bool
	err := admin.QueryRow(ctx, "select exists (select from pg_database where datname = $1 and datistemplate and not datallowconn)", name).Scan(&ready)
	if err != nil {
		return false, fmt.Errorf("query template %s: %w", name, err)
	}
	return ready, nil
}

func dropTemplate(ctx context.Context, admin *pgx.Conn, name string) error {
	var exists bool
	if err := admin.QueryRow(ctx, "select exists (select from pg_database where datname = $1)", name).Scan(&exists); err != nil {
		return fmt.Errorf("query template %s: %w", name, err)
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

// copyStrategy returns the STRATEGY clause that copies files, the fastest way for small databases. The clause exists since
// PostgreSQL 15; older versions always copy files.
func copyStrategy(conn *pgx.Conn) string {
	version := conn.PgConn().ParameterStatus("server_version")
	if strings.HasPrefix(version, "14") || strings.HasPrefix(version, "13") {
		return ""
	}
	return " strategy file_copy"
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

// permissionHint adds what to do to the error of a role that may not create databases.
func permissionHint(err error) error {
	if sqlstate.Code(err) == sqlstate.InsufficientPrivilege {
		return fmt.Errorf("%w: give the role the attribute CREATEDB", err)
	}
	return err
}

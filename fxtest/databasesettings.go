package fxtest

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// copyDatabaseSettings gives a clone what CREATE DATABASE does not copy from its template: settings of ALTER DATABASE … SET and
// ALTER ROLE … IN DATABASE … SET, and privileges on the database.
func copyDatabaseSettings(ctx context.Context, admin *pgx.Conn, template, clone string) error {
	settings, err := databaseSettings(ctx, admin, template, clone)
	if err != nil {
		return fmt.Errorf("read the settings of template %s: %w", template, err)
	}
	grants, err := databaseGrants(ctx, admin, template, clone)
	if err != nil {
		return fmt.Errorf("read the privileges on template %s: %w", template, err)
	}
	if statements := slices.Concat(settings, grants); len(statements) > 0 {
		if _, err := admin.PgConn().Exec(ctx, strings.Join(statements, ";\n")).ReadAll(); err != nil {
			return fmt.Errorf("copy settings and privileges of template %s: %w", template, err)
		}
	}
	return nil
}

// listSettings hold identifiers that are already quoted where necessary (variable_is_guc_list_quote in pg_dump).
func listSettings() []string {
	return []string{"search_path", "temp_tablespaces", "session_preload_libraries", "local_preload_libraries"}
}

func databaseSettings(ctx context.Context, admin *pgx.Conn, template, clone string) ([]string, error) {
	rows, err := admin.Query(ctx, `select coalesce(r.rolname, ''), split_part(setting, '=', 1),
			quote_literal(substr(setting, strpos(setting, '=') + 1)), substr(setting, strpos(setting, '=') + 1)
		from pg_db_role_setting s cross join unnest(s.setconfig) setting left join pg_roles r on r.oid = s.setrole
		where s.setdatabase = (select oid from pg_database where datname = $1)`, template)
	if err != nil {
		return nil, err //nolint:wrapcheck // the caller wraps it
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) { //nolint:wrapcheck // the caller wraps it
		var role, name, literal, text string
		if err := row.Scan(&role, &name, &literal, &text); err != nil {
			return "", err //nolint:wrapcheck // the caller wraps it
		}
		value := literal
		if slices.Contains(listSettings(), name) && text != `""` {
			value = text
		} else if text == `""` {
			value = "''"
		}
		of := "database " + quote(clone)
		if role != "" {
			of = "role " + quote(role) + " in " + of
		}
		return fmt.Sprintf("alter %s set %s = %s", of, pgx.Identifier(strings.Split(name, ".")).Sanitize(), value), nil
	})
}

func databaseGrants(ctx context.Context, admin *pgx.Conn, template, clone string) ([]string, error) {
	rows, err := admin.Query(ctx, `select coalesce(r.rolname, ''), a.privilege_type, a.is_grantable
		from pg_database d cross join aclexplode(d.datacl) a left join pg_roles r on r.oid = a.grantee
		where d.datname = $1`, template)
	if err != nil {
		return nil, err //nolint:wrapcheck // the caller wraps it
	}
	grants, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
		var role, privilege string
		var grantable bool
		if err := row.Scan(&role, &privilege, &grantable); err != nil {
			return "", err //nolint:wrapcheck // the caller wraps it
		}
		grantee := "public"
		if role != "" {
			grantee = quote(role)
		}
		statement := fmt.Sprintf("grant %s on database %s to %s", privilege, quote(clone), grantee)
		if grantable {
			statement += " with grant option"
		}
		return statement, nil
	})
	if err != nil || len(grants) == 0 { // the template has the default ones
		return nil, err //nolint:wrapcheck // the caller wraps it
	}
	return append([]string{"revoke all on database " + quote(clone) + " from public"}, grants...), nil
}

package fxtest

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/rdsfx-go/rdsfx/internal/goosefile"
	"github.com/rdsfx-go/rdsfx/internal/sqltext"
)

// lockPermit in a statement's comment, with a reason, suppresses its findings.
var lockPermit = regexp.MustCompile(`locks-ok:[ \t]*[^\s*]`)

// permitted reports whether a comment of a statement permits its findings.
func permitted(sql string) bool {
	lexer := sqltext.NewLexer(sql)
	for token, ok := lexer.Next(); ok; token, ok = lexer.Next() {
		if token.Kind == sqltext.Comment && lockPermit.MatchString(token.Text) {
			return true
		}
	}
	return false
}

// blockingModes are the lock modes that block writers (PostgreSQL manual, "Explicit Locking").
var blockingModes = []string{"ShareLock", "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock"}

const accessExclusive = "AccessExclusiveLock"

// assess adds the findings of a statement.
func (o *lockObserver) assess(s goosefile.Statement, locks StatementLocks, began time.Time) {
	fresh := 0
	var scanned []string
	for _, table := range locks.Tables {
		if slices.ContainsFunc(table.Modes, func(mode string) bool { return slices.Contains(blockingModes, mode) }) {
			o.blocking = true
		}
		if slices.Contains(table.Modes, accessExclusive) {
			o.exclusive[table.Table] = began
			fresh++
		}
		switch {
		case table.Rewritten:
			scanned = append(scanned, table.Table+" is rewritten")
		case table.Scanned:
			scanned = append(scanned, table.Table+" is scanned")
		}
	}
	if permitted(s.SQL) {
		return
	}
	if o.blocking && len(scanned) > 0 {
		o.add(s.Line, strings.Join(scanned, " and ")+" while a lock blocks other sessions", saferWay(s.SQL))
	}
	if fresh > 0 && len(o.exclusive) > 1 {
		tables := strings.Join(slices.Sorted(maps.Keys(o.exclusive)), " and ")
		o.add(s.Line, "one transaction holds ACCESS EXCLUSIVE locks on "+tables, "change one table in each migration")
	}
}

func (o *lockObserver) add(line int, problem, fix string) {
	o.findings = append(o.findings, LockFinding{File: o.file.Name, Line: line, Problem: problem, Fix: fix})
}

// heldTooLong adds a finding for ACCESS EXCLUSIVE locks that outlast the limit.
func (o *lockObserver) heldTooLong() {
	if o.settings.maxLocked <= 0 {
		return
	}
	if slices.ContainsFunc(o.file.Up, func(s goosefile.Statement) bool { return permitted(s.SQL) }) {
		return
	}
	for _, table := range slices.Sorted(maps.Keys(o.exclusive)) {
		if held := time.Since(o.exclusive[table]); held > o.settings.maxLocked {
			o.add(o.file.Up[0].Line, fmt.Sprintf("%s has an ACCESS EXCLUSIVE lock for %v", table, held.Round(time.Millisecond)),
				"move other statements into another migration")
		}
	}
}

// saferWay names a safer way to the effect of a statement.
func saferWay(sql string) string {
	words := " " + strings.ToLower(strings.Join(strings.Fields(sql), " ")) + " "
	has := func(text string) bool { return strings.Contains(words, " "+text+" ") }
	switch {
	case has("index"):
		return "use CREATE INDEX CONCURRENTLY in a file with \"-- +goose NO TRANSACTION\""
	case has("type"):
		return "add a column of the new type, fill it in batches, and switch to it"
	case has("set not null"):
		return "add CHECK (column IS NOT NULL) NOT VALID, validate it in another migration, then set NOT NULL"
	case has("unique"), has("primary key"):
		return "create the unique index CONCURRENTLY, then add the constraint USING INDEX"
	case has("foreign key"), has("references"), has("check"):
		return "add the constraint NOT VALID, and validate it in another migration"
	case has("add"):
		return "add the column without a volatile default, set the default, and fill the rows in batches"
	case has("update"), has("delete"), has("insert"):
		return "change rows in a migration without schema changes, in batches"
	}
	return "split the change into steps that need no scan under this lock"
}

// usedColumns returns the columns of the models that exist, as table and column.
func (o *lockObserver) usedColumns(ctx context.Context) (map[[2]string]bool, error) {
	used := map[[2]string]bool{}
	for _, model := range o.settings.models {
		for _, column := range model.Columns() {
			exists, err := o.columnExists(ctx, model.Table(), column)
			if err != nil {
				return nil, err
			}
			if exists {
				used[[2]string{model.Table(), column}] = true
			}
		}
	}
	return used, nil
}

func (o *lockObserver) columnExists(ctx context.Context, table, column string) (exists bool, err error) {
	err = o.conn.QueryRow(ctx, `select exists (select from pg_attribute where attrelid = to_regclass($1) and attname = $2 and not attisdropped)`,
		table, column).Scan(&exists)
	if err != nil {
		return false, fmt.Errorf("%s: read the columns: %w", o.file.Name, err)
	}
	return exists, nil
}

// removedColumns adds a finding for each used column that does not exist any more.
func (o *lockObserver) removedColumns(ctx context.Context, used map[[2]string]bool) error {
	if slices.ContainsFunc(o.file.Up, func(s goosefile.Statement) bool { return permitted(s.SQL) }) {
		return nil
	}
	columns := slices.SortedFunc(maps.Keys(used), func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	for _, column := range columns {
		exists, err := o.columnExists(ctx, column[0], column[1])
		if err != nil {
			return err
		}
		if !exists {
			o.add(o.file.Up[0].Line, fmt.Sprintf("column %s of table %s, which a model uses, is removed", column[1], column[0]),
				"remove the field first, deploy, and drop the column in a later release")
		}
	}
	return nil
}

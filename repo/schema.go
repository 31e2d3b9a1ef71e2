package repo

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/internal/typo"
)

// Problem is the kind of a difference between a model and the live schema.
type Problem string

// The problems that [CheckSchema] finds.
const (
	MissingTable   Problem = "missing table"
	MissingColumn  Problem = "missing column"
	MissingKey     Problem = "missing key"
	MissingDefault Problem = "missing default"
	MissingUnique  Problem = "missing unique index"
	NullableColumn Problem = "nullable column"
	TypeMismatch   Problem = "type mismatch"
	// UnregisteredType is a column whose type the driver doesn't know. Register it with pgfx.WithTypes.
	UnregisteredType Problem = "unregistered type"
	// Overflow is a number that the field can hold and the column can't, or the reverse.
	Overflow Problem = "overflow"
	// LostPrecision is a value of which the field or the column keeps only a part: digits, microseconds or months.
	LostPrecision Problem = "lost precision"
	// NeverNull is a field that can be NULL, and a column that can't.
	NeverNull Problem = "never null"
)

// Severity is the weight of a finding.
type Severity uint8

const (
	// SeverityError is a difference because of which calls fail. rdsfx.SchemaFail and fxtest fail on it.
	SeverityError Severity = iota
	// SeverityAdvice is a difference that matters for some values only. The model works as long as they don't occur. Advice never
	// fails a start or a test.
	SeverityAdvice
)

// String returns "error" or "advice".
func (s Severity) String() string {
	if s == SeverityAdvice {
		return "advice"
	}
	return "error"
}

// Finding is one difference between a model and the live schema.
type Finding struct {
	// Problem is the kind of the difference. Severity is SeverityAdvice for Overflow, LostPrecision and NeverNull.
	Problem  Problem
	Severity Severity
	// Database is the model's database, "" for the default one.
	Database string
	// Table is the model's table. Column is the column, "" if the finding concerns the table.
	Table, Column string
	// Text describes the difference and its consequence.
	Text string
	// Fix is SQL that corrects the schema, "" if there is no such statement. You can always change the model
	// instead. Review the types in it: a model permits more than one type for a column.
	Fix string
}

// String returns the text and the fix.
func (f Finding) String() string {
	if f.Fix == "" {
		return f.Text
	}
	return f.Text + "; to fix it: " + f.Fix
}

// CheckSchema compares models with the live schema in one round trip and returns all differences, in the order of the models. Those
// with SeverityAdvice need no fix as long as the values that they describe don't occur. All models must belong to q's database. An
// error means that the comparison failed.
//
// A model whose conflict target has expressions takes one more round trip ([OnConflictExpr]): the server plans an upsert. In a
// transaction that target isn't checked.
func CheckSchema(ctx context.Context, q Querier, models ...Model) ([]Finding, error) {
	tables := make([]string, 0, len(models))
	for _, model := range models {
		if model.d == nil {
			return nil, &queryError{"schema check: a model is empty; create it with ModelOf"}
		}
		tables = append(tables, model.d.table)
	}
	if len(models) == 0 {
		return nil, nil
	}
	var checkers []*checker
	err := run(ctx, q, schemaSQL, []any{tables}, func(rows pgx.Rows) error {
		checkers = checkers[:0]
		for rows.Next() {
			var (
				position int
				data     []byte
			)
			if err := rows.Scan(&position, &data); err != nil {
				return err //nolint:wrapcheck // wrapped by run
			}
			live := &liveTable{}
			if err := json.Unmarshal(data, live); err != nil {
				return fmt.Errorf("reading the catalog: %w", err)
			}
			c := &checker{d: models[position-1].d, live: live}
			if len(live.Columns) > 0 {
				c.d.live.Store(c.d.newLiveColumns(live, rows.Conn()))
			}
			c.check()
			checkers = append(checkers, c)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, err
	}
	checkTypes(ctx, q, checkers)
	var found []Finding
	for _, c := range checkers {
		c.checkExpressionTarget(ctx, q)
		found = append(found, c.found...)
	}
	return found, nil
}

// schemaSQL reads the catalog's description of tables, one row per table (PostgreSQL manual, "System Catalogs"). The comment names it
// in telemetry.
const schemaSQL = `-- name: CheckSchema
select t.position::int, jsonb_build_object(
	'exists', c.oid is not null,
	'columns', ` + columnsJSON + `,
	'unique', (select jsonb_agg(jsonb_build_object(
			'name', ic.relname, 'expressions', i.indexprs is not null, 'partial', i.indpred is not null, 'deferrable', not i.indimmediate,
			'columns', (select jsonb_agg(a.attname) from pg_attribute a
				where a.attrelid = c.oid and a.attnum = any (i.indkey[0:i.indnkeyatts - 1])))) from pg_index i
		join pg_class ic on ic.oid = i.indexrelid
		where i.indrelid = c.oid and i.indisunique and i.indisvalid),
	'constraints', (select jsonb_agg(conname) from pg_constraint where conrelid = c.oid and contype in ('p', 'u', 'x')),
	'view', ` + isView + `)
from unnest($1::text[]) with ordinality t (name, position) left join pg_class c on c.oid = to_regclass(t.name)
order by t.position`

// liveTable is the catalog's description of a table.
type liveTable struct {
	Exists      bool         `json:"exists"`
	View        bool         `json:"view"`
	Columns     []liveColumn `json:"columns"`
	Unique      []liveUnique `json:"unique"`
	Constraints []string     `json:"constraints"`
}

type liveUnique struct {
	Name       string `json:"name"`
	Partial    bool   `json:"partial"`
	Deferrable bool   `json:"deferrable"`
	// Expressions is set if the index has expressions, which Columns lacks.
	Expressions bool     `json:"expressions"`
	Columns     []string `json:"columns"`
}

// checker compares one model with its table.
type checker struct {
	d     *descriptor
	live  *liveTable
	found []Finding
}

// addf adds a finding.
func (c *checker) addf(problem Problem, column, fix, format string, args ...any) {
	c.found = append(c.found, Finding{
		Problem: problem, Database: c.d.database, Table: c.d.label, Column: column, Fix: fix,
		Text: "repo: table " + c.d.label + " " + fmt.Sprintf(format, args...),
	})
}

// advisef adds a finding that matters for some values only.
func (c *checker) advisef(problem Problem, column *column, fix, format string, args ...any) {
	c.addf(problem, column.name, fix, format, args...)
	c.found[len(c.found)-1].Severity = SeverityAdvice
}

// hasErrors reports whether a finding is more than advice.
func (c *checker) hasErrors() bool {
	return slices.ContainsFunc(c.found, func(f Finding) bool { return f.Severity == SeverityError })
}

// alter returns the beginning of the statement that changes a column.
func (c *checker) alter(column *column) string {
	return "alter table " + c.d.table + " alter column " + column.ident
}

func (c *checker) check() {
	if !c.live.Exists {
		c.addf(MissingTable, "", c.createTable(), "doesn't exist, and type %v is stored in it: create it in a migration or a setup step "+
			"(group pgfx.setup), or correct the name given to the repository", c.d.typ)
		return
	}
	byName := make(map[string]*liveColumn, len(c.live.Columns))
	for i := range c.live.Columns {
		byName[c.live.Columns[i].Name] = &c.live.Columns[i]
	}
	withoutField := c.withoutField()
	for i := range c.d.columns {
		column := &c.d.columns[i]
		if live, ok := byName[column.name]; ok {
			c.checkColumn(column, live)
			continue
		}
		if nearest := typo.Nearest(column.name, slices.Sorted(maps.Keys(withoutField))); nearest != "" {
			delete(withoutField, nearest)
			c.addf(MissingColumn, column.name, "", "has no column %q, which field %s needs: did you mean %q?", column.name, column.field, nearest)
			continue
		}
		c.addf(MissingColumn, column.name, "alter table "+c.d.table+" add column "+c.define(column),
			"has no column %q, which field %s needs", column.name, column.field)
	}
	c.checkWithoutField(withoutField)
	c.checkUnique()
}

func (c *checker) checkColumn(column *column, live *liveColumn) {
	if typeFits(column, live.Base) {
		c.checkValues(column, live)
	} else {
		c.addf(TypeMismatch, column.name, c.alter(column)+" type "+sqlType(column)+" using "+column.ident+"::text::"+sqlType(column),
			"has column %q of type %s, which field %s of type %v can't hold", column.name, live.Type, column.field, column.typ)
	}
	if column.roles.is(rolePK) && live.Kind == "e" && live.isDomain() {
		c.addf(TypeMismatch, column.name, c.alter(column)+" type "+live.BaseName, "has the key column %q of type %s, a domain over an enum, "+
			"which the server does not compare with a value: make the enum its type", column.name, live.Type)
	}
	if !live.NotNull && !c.live.View && !column.indirect && !isNullable(column.typ) {
		c.addf(NullableColumn, column.name, c.alter(column)+" set not null",
			"allows NULL in column %q, and field %s of type %v can't hold it: reading such a row would fail", column.name, column.field, column.typ)
	}
	if !c.live.View {
		c.checkDefault(column, live)
		c.checkNull(column, live)
	}
}

// checkDefault checks that the database fills the columns that are left to it, and no others.
func (c *checker) checkDefault(column *column, live *liveColumn) {
	if column.roles.is(roleGenerated) && !live.Generated && !live.Default {
		c.addf(MissingDefault, column.name, "", "doesn't generate column %q, and field %s has the role generated: it would never get a value",
			column.name, column.field)
	}
	if column.roles.is(roleDefault) && !live.Default && live.NotNull {
		c.addf(MissingDefault, column.name, c.alter(column)+" set default "+sqlDefault(column),
			"has no default for column %q, and field %s has the role default: creating a row with the field zero would fail",
			column.name, column.field)
	}
	if column.written() && live.Generated && !column.roles.is(roleDefault) {
		c.addf(MissingDefault, column.name, c.alter(column)+" drop expression",
			"generates column %q, and field %s would be written: give it the role generated", column.name, column.field)
	}
}

// withoutField returns the columns without a field, by name.
func (c *checker) withoutField() map[string]*liveColumn {
	columns := make(map[string]*liveColumn)
	for i := range c.live.Columns {
		live := &c.live.Columns[i]
		if _, known := c.d.byName[live.Name]; !known {
			columns[live.Name] = live
		}
	}
	return columns
}

// checkWithoutField checks columns without a field, which an insert would have to fill.
func (c *checker) checkWithoutField(columns map[string]*liveColumn) {
	if c.live.View {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(columns)) {
		if live := columns[name]; !live.NotNull || live.Default || live.Generated {
			continue
		}
		c.addf(MissingDefault, name, "alter table "+c.d.table+" alter column "+pgx.Identifier{name}.Sanitize()+" drop not null",
			"has column %q, which is not null without a default, and type %v has no field for it: creating rows would fail", name, c.d.typ)
	}
}

// checkUnique checks the indexes that the key and the conflict target require.
func (c *checker) checkUnique() {
	if c.live.View {
		return
	}
	var key []string
	for _, position := range c.d.key {
		key = append(key, c.d.columns[position].name)
	}
	list := strings.Join(c.d.keyColumns(), ", ")
	if !c.hasUnique(key, false) {
		c.addf(MissingKey, strings.Join(key, ", "), "alter table "+c.d.table+" add primary key ("+list+")",
			"has no primary key or unique index on (%s), which is the key of type %v", list, c.d.typ)
	}
	target := c.d.conflict
	switch {
	case target == nil, target.isExpression: // see checkExpressionTarget
	case target.index != "":
		if !slices.ContainsFunc(c.live.Unique, func(u liveUnique) bool { return u.Name == target.index && !u.Deferrable }) {
			c.addf(MissingUnique, "", "", "has no unique index %q, which upserts name as their target", target.index)
		}
	case target.constraint != "":
		if !slices.Contains(c.live.Constraints, target.constraint) {
			c.addf(MissingUnique, "", "", "has no unique or exclusion constraint %q, which upserts name as their target", target.constraint)
		}
	case !c.hasUnique(target.columns, target.predicate != ""):
		var idents []string
		for _, name := range target.columns {
			idents = append(idents, pgx.Identifier{name}.Sanitize())
		}
		fix := "create unique index on " + c.d.table + " (" + strings.Join(idents, ", ") + ")"
		if target.predicate != "" {
			fix += " where " + target.predicate
		}
		c.addf(MissingUnique, strings.Join(target.columns, ", "), fix,
			"has no unique index on (%s) that upserts could use as their conflict target", strings.Join(target.columns, ", "))
	}
}

// hasUnique reports whether there is a unique index on exactly these columns, in any order.
func (c *checker) hasUnique(columns []string, partial bool) bool {
	want := slices.Sorted(slices.Values(columns))
	return slices.ContainsFunc(c.live.Unique, func(u liveUnique) bool {
		return (partial || !u.Partial) && !u.Deferrable && !u.Expressions && slices.Equal(slices.Sorted(slices.Values(u.Columns)), want)
	})
}

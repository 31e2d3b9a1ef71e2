package repo

import (
	"context"
	"fmt"
	"reflect"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
	"github.com/rdsfx-go/rdsfx/internal/sqltext"
)

// OnConflictExpr makes rows with the same values of these SQL expressions the same row. A unique index on exactly these expressions
// is required, in any order: OnConflictExpr("tenant", "lower(email)"). Use [ConflictTarget.Where] for the predicate of a partial
// index. The columns within an expression are updated like others.
//
// Rows are not compared before they are sent. If two rows of one UpsertMany conflict with each other, the second one updates the
// first. The rows of one call are upserted one by one in one pipeline.
func OnConflictExpr(expressions ...string) ConflictTarget {
	return ConflictTarget{expressions: expressions, isExpression: true}
}

// OnIndex makes rows that conflict in the unique index of this name the same row. The index may have expressions and a predicate.
// Its definition is read from the catalog before the first upsert, in one more round trip.
func OnIndex(name string) ConflictTarget { return ConflictTarget{index: name} }

// checkExpressions checks the expressions and the index of a conflict target.
func (t ConflictTarget) checkExpressions(d *descriptor) error {
	if t.index != "" && t.predicate != "" {
		return &queryError{d.label + ": OnIndex reads the predicate of the index: remove Where"}
	}
	if t.isExpression && len(t.expressions) == 0 {
		return &queryError{d.label + ": OnConflictExpr needs an expression"}
	}
	for _, expression := range t.expressions {
		b := newBuilder(d, "")
		if b.fragment(expression, nil, false); b.err != nil {
			return b.err
		}
	}
	return nil
}

// indexSQL reads the columns, the definitions and the predicate of a unique index. A definition is an expression or a quoted
// column. The column is "" for an expression.
const indexSQL = `select
	array(select coalesce(a.attname, '') from generate_series(1, i.indnkeyatts) k left join pg_catalog.pg_attribute a
		on a.attrelid = i.indrelid and a.attnum = i.indkey[k - 1] and a.attnum <> 0 order by k)::text[],
	array(select pg_catalog.pg_get_indexdef(i.indexrelid, k, true) from generate_series(1, i.indnkeyatts) k order by k),
	coalesce(pg_catalog.pg_get_expr(i.indpred, i.indrelid), '')
	from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid
	where i.indrelid = pg_catalog.to_regclass($1) and c.relname = $2 and i.indisunique and i.indisvalid and i.indimmediate`

// resolveTarget replaces the name of an index by its columns or expressions, which are read once. A call without an index is free.
func (r *base) resolveTarget(ctx context.Context, u *upsert) (*upsert, error) {
	if u.target.index == "" {
		return u, nil
	}
	known, ok := r.d.statements.indexes.Load(u.target.index)
	if !ok {
		target, err := r.readIndex(ctx, u.target.index)
		if err != nil {
			return nil, err
		}
		known, _ = r.d.statements.indexes.LoadOrStore(u.target.index, target)
	}
	resolved := *u
	resolved.target, _ = known.(*ConflictTarget)
	return &resolved, nil
}

func (r *base) readIndex(ctx context.Context, name string) (*ConflictTarget, error) {
	type index struct {
		Columns, Definitions []string
		Predicate            string
	}
	found, err := pgxCollect[index](ctx, r, indexSQL, r.d.table, name)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, &queryError{fmt.Sprintf("%s has no unique index %q, which OnIndex names: it must be valid and not deferrable", r.d.label, name)}
	}
	target := &ConflictTarget{columns: found[0].Columns, predicate: found[0].Predicate}
	for _, column := range found[0].Columns {
		if _, known := r.d.byName[column]; !known { // an expression, or a column without a field
			return &ConflictTarget{expressions: found[0].Definitions, isExpression: true, predicate: target.predicate}, nil
		}
	}
	return target, nil
}

// pgxCollect reads the rows of a statement of the library into structs, by position.
func pgxCollect[U any](ctx context.Context, r *base, sql string, args ...any) ([]U, error) {
	var found []U
	err := r.query(ctx, sql, args, func(rows pgx.Rows) (err error) {
		found, err = pgx.CollectRows(rows, pgx.RowToStructByPos[U])
		return err //nolint:wrapcheck // the caller wraps it with the operation
	})
	return found, err
}

// write writes the columns or expressions of the target in parentheses, and its predicate.
func (t ConflictTarget) write(b *builder) {
	separator := "("
	for _, name := range t.columns {
		b.text(separator).column(name)
		separator = ", "
	}
	for _, expression := range t.expressions {
		b.text(separator).fragment(expression, nil, false)
		separator = ", "
	}
	b.text(")")
	if t.predicate != "" {
		b.text(" where ").fragment(t.predicate, nil, false)
	}
}

// writeEqual writes the condition that a row has the same value of an expression as v has. The expression is computed from v's
// fields by the server, in a subquery whose columns are named as the table's.
func (t ConflictTarget) writeEqual(b *builder, live *liveColumns, v reflect.Value, expression string) {
	b.fragment(expression, nil, false)
	b.text(" = (select ").fragment(expression, nil, false)
	b.text(" from (select ")
	separator := ""
	for _, position := range columnsIn(b.d, expression) {
		c := &b.d.columns[position]
		b.text(separator).arg(fieldArg(v, c)).text(live.typeCast(position)).text(" as " + c.ident)
		separator = ", "
	}
	b.text(") as " + b.d.path[len(b.d.path)-1:].Sanitize() + ")")
}

// columnsIn returns the positions of the model's columns whose names occur in an expression.
func columnsIn(d *descriptor, expression string) []int {
	var positions []int
	seen := map[int]bool{}
	lexer := sqltext.NewLexer(expression)
	for token, ok := lexer.Next(); ok; token, ok = lexer.Next() {
		if token.Kind != sqltext.Word && token.Kind != sqltext.Identifier {
			continue
		}
		if position, known := d.byName[unquote(token)]; known && !seen[position] {
			seen[position] = true
			positions = append(positions, position)
		}
	}
	return positions
}

// typeCast returns the cast of an argument to a column's base type, "" if the column is unknown.
func (l *liveColumns) typeCast(position int) string {
	if l == nil || l.columns[position] == nil {
		return ""
	}
	return "::" + l.columns[position].BaseName
}

// checkExpressionTarget checks that the server finds a unique index for a target with expressions. The server compares expressions
// only when it plans a statement, so one is planned and not executed. In a transaction, which an error would end, the target isn't
// checked.
func (c *checker) checkExpressionTarget(ctx context.Context, q Querier) {
	target := c.d.conflict
	if target == nil || !target.isExpression || !c.live.Exists || c.live.View || c.hasErrors() || inTransaction(ctx, q) {
		return
	}
	b := newBuilder(c.d, "explain insert into "+c.d.table+" default values on conflict ")
	target.write(b)
	b.text(" do nothing")
	rows, err := q.Query(ctx, b.sql.String(), pgx.QueryExecModeExec)
	if err == nil {
		rows.Close()
		err = rows.Err()
	}
	pg, refused := pgError(err)
	if !refused {
		return
	}
	list := strings.Join(target.expressions, ", ")
	if pg.Code != sqlstate.InvalidColumnReference {
		c.addf(MissingUnique, "", "", "refuses the conflict target (%s): %s", list, pg.Message)
		return
	}
	fix := newBuilder(c.d, "create unique index on "+c.d.table+" ")
	target.write(fix)
	c.addf(MissingUnique, "", fix.sql.String(), "has no unique index on (%s) that upserts could use as their conflict target", list)
}
